"""Where the arithmetic runs: the device and the autocast type, chosen from what the machine really has."""

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from swarm.errors import SwarmError

SMALL_MODEL = 20_000_000
"""Parameters below which bfloat16 on a CPU costs more in conversions than it saves in multiplications."""


@dataclass(frozen=True)
class Device:
    place: torch.device
    autocast_dtype: torch.dtype | None
    """Type of the matrix arithmetic over fp32 master weights; None computes in fp32."""
    name: str
    """For people, such as `CPU AMD EPYC, 2 threads, bfloat16`."""

    def autocast(self, keep_converted: bool = True) -> AbstractContextManager[object]:
        """The context in which sampling, scoring and updating all run, so that their log-probabilities agree.

        With `keep_converted` a weight is converted once in the context, else whenever it is multiplied.
        """
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.place.type, dtype=self.autocast_dtype, cache_enabled=keep_converted)

    def without_autocast(self, arithmetic: str) -> "Device":
        """The same place for weights that say themselves how they are multiplied."""
        return Device(self.place, None, f"{self.name.rpartition(',')[0]}, {arithmetic}")


def choose(
    parameters: int, autocast: Literal["auto", "bfloat16", "none"] = "auto", device: str | None = None
) -> Device:
    """The device for a model of `parameters` weights: CUDA, else Apple's MPS, else the CPU, unless `device` names one.

    `auto` takes bfloat16 where the hardware multiplies in it and the model is large enough to gain from it.

    Raises:
        SwarmError: `device` names something that this machine or this PyTorch does not have.
    """
    chosen = _device(device)
    if autocast == "none":
        dtype = None
    elif autocast == "bfloat16":
        dtype = torch.bfloat16
    else:
        dtype = torch.bfloat16 if _multiplies_in_bfloat16(chosen, parameters) else None
    arithmetic = "fp32" if dtype is None else "bfloat16"
    return Device(chosen, dtype, f"{_hardware(chosen)}, {arithmetic}")


def _device(name: str | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(1, device=name).device  # with the number of the GPU, which the name may leave out
    except (RuntimeError, AssertionError) as error:
        raise SwarmError(f"no device {name!r} on this machine; leave the device out to have one chosen") from error


def _multiplies_in_bfloat16(device: torch.device, parameters: int) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return parameters >= SMALL_MODEL and bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_flags())
    return False


def _cpu_flags() -> set[str]:
    """What the CPU says it can do (Linux); elsewhere the empty set, that is fp32."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = (line for line in text.splitlines() if line.lower().startswith(("flags", "features")))
    return set(next(lines, "").partition(":")[2].split())


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if device.type == "mps":
        return "Apple GPU"
    return f"CPU {_cpu_name()}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
