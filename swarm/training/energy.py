"""Energy that the machine says it used: NVML for an NVIDIA GPU, RAPL for the processor; nothing where neither tells."""

from pathlib import Path

import torch

RAPL = Path("/sys/class/powercap")


class Energy:
    """Of the device that computes; a processor's energy is the whole machine's, other programs included."""

    def __init__(self, device: torch.device, rapl: Path = RAPL) -> None:
        self._gpu = _nvml_handle(device) if device.type == "cuda" else None
        # intel-rapl:0 is a package; intel-rapl:0:1 is a part of it. AMD's processors appear under the same name.
        self._packages = sorted(rapl.glob("intel-rapl:?")) if device.type == "cpu" else []
        self._joules = 0.0
        self._last = self._read()

    def joules(self) -> float | None:
        """Since this object was made; None where the machine does not tell."""
        now = self._read()
        if now is None or self._last is None:
            return None
        for (before, _), (after, largest) in zip(self._last, now, strict=True):
            self._joules += after - before if after >= before else after + largest - before  # the counter began anew
        self._last = now
        return self._joules

    def _read(self) -> list[tuple[float, float]] | None:
        """(joules, where the counter begins anew) of each counter."""
        if self._gpu is not None:
            import pynvml

            try:
                return [(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu) / 1e3, 0.0)]
            except pynvml.NVMLError:
                return None
        try:
            found = [
                (int((one / "energy_uj").read_text()) / 1e6, int((one / "max_energy_range_uj").read_text()) / 1e6)
                for one in self._packages
            ]
        except (OSError, ValueError):  # most systems let only root read it
            return None
        return found or None


def _nvml_handle(device: torch.device) -> object | None:
    try:
        import pynvml
    except ImportError:  # machines without network, on which only bench.on_gpu runs, may lack it
        return None
    try:
        pynvml.nvmlInit()
        # NVML counts all GPUs, PyTorch those that are visible to it.
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except (pynvml.NVMLError, AttributeError):
        return None
