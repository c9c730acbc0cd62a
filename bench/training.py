"""python -m bench.training: our peer alone beside TRL's GRPOTrainer and beside one-generate-call-per-completion.

The arms (bench/arms.py) take turns, each in a process of its own. Writes bench/results/training.md, with a section for
CPUs that multiply in bfloat16 and one for those that do not; GPU rows come from bench/results/training_gpu.json, which
`python -m bench.on_gpu` writes on a machine with a GPU and no network.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.machine import describe
from swarm.training.device import SMALL_MODEL, choose
from swarm.training.obtain import obtain

RESULT = Path(__file__).parent / "results" / "training.md"
BFLOAT16_RESULTS = RESULT.with_name("training_cpu_bfloat16.json")
FP32_RESULTS = RESULT.with_name("training_cpu_fp32.json")
GPU_RESULTS = RESULT.with_name("training_gpu.json")
NAMES = {
    "ours": "**ours**",
    "ours-vllm": "**ours**, `--sampler vllm`",
    "trl": "TRL 1.16 `GRPOTrainer`",
    "trl-vllm": "TRL 1.16 with colocated vLLM",
    "anchor": "one `generate` per completion, fp32",
}
Result = dict[str, Any]


def run_arm(workload: str, arm: str, directory: Path, *, device: str, steps: int, seed: int, limit_s: float) -> Result:
    """What the arm measured, or `error` with the end of what it said."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        command = [sys.executable, "-m", "bench.arms", workload, arm, str(directory), "--out", str(out)]
        command += ["--device", device, "--steps", str(steps), "--seed", str(seed)]
        started = time.monotonic()
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
            said = ended.stderr
        except subprocess.TimeoutExpired:
            said = f"not done within {limit_s:.0f} s"
        if out.is_file():
            result = json.loads(out.read_text())
        else:
            result = {"workload": workload, "arm": arm, "seed": seed, "device": device, "error": said[-1500:]}
        print(f"{workload} {arm} seed {seed}: {time.monotonic() - started:.0f} s", result.get("error", ""), flush=True)
        return result


def table(results: Sequence[Result]) -> list[str]:
    """A row per workload and arm; the first step of each run, which warms up, is left out."""
    lines = [
        "| device | workload | arm | runs | s/step (least to most) | CPU s/step | tokens/s | peak memory | "
        "reward, first third to last |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((one["device"], one["workload"], one["arm"]) for one in results):
        same = [one for one in results if (one["device"], one["workload"], one["arm"]) == key]
        good = [one for one in same if "error" not in one]
        start = "| " + " | ".join((key[0], key[1], NAMES[key[2]], str(len(good)))) + " | "
        if not good:
            lines.append(start + f"failed: {same[0]['error'].strip().splitlines()[-1][:120]} | | | | |")
            continue
        means = [statistics.mean(_each(one, "seconds")) for one in good]
        speeds = [sum(_each(one, "tokens")) / sum(_each(one, "seconds")) for one in good]
        cells = [
            f"{statistics.mean(means):.2f} ({min(means):.2f} to {max(means):.2f})",
            f"{statistics.mean(statistics.mean(_each(one, 'cpu_seconds')) for one in good):.2f}",
            f"{statistics.mean(speeds):.0f}",
            f"{max(one['peak_bytes'] for one in good) / 2**30:.2f} GiB",
            f"{_third(good, 0):.2f} to {_third(good, 2):.2f}",
        ]
        lines.append(start + " | ".join(cells) + " |")
    return lines


def _each(result: Result, what: str) -> list[float]:
    return [step[what] for step in (result["steps"][1:] or result["steps"])]


def _third(results: Sequence[Result], which: int) -> float:
    """Mean reward of one third of the steps."""
    found = []
    for result in results:
        count = len(result["steps"])
        part = max(1, count // 3)
        start = 0 if which == 0 else count - part
        found += [step["reward"] for step in result["steps"][start : start + part]]
    return statistics.mean(found)


def render() -> None:
    """Write training.md from what has been measured so far."""
    commands = "`make bench-training`; on a GPU machine: `python -m bench.on_gpu`"
    lines = ["# One peer's training, alone", "", commands, ""]
    for heading, path in (
        ("CPU that multiplies in bfloat16", BFLOAT16_RESULTS),
        ("CPU that does not", FP32_RESULTS),
        ("GPU", GPU_RESULTS),
    ):
        lines += [f"## {heading}", ""]
        if not path.is_file():
            lines += ["not measured", ""]
            continue
        found = json.loads(path.read_text())
        command = [f"- command: `{found['command']}`"] if "command" in found else []
        lines += [*command, found["machine"].rstrip(), "", *table(found["results"]), ""]
    RESULT.write_text("\n".join(lines))


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    p.add_argument("--workload", default="smollm2")
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--arms", nargs="*", choices=NAMES, default=["ours", "trl", "anchor"])
    p.add_argument("--limit-s", type=float, default=1800, help="of one run")
    p.add_argument("--render", action="store_true", help="only write the table from what was measured before")
    options = p.parse_args()
    if not options.render:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)  # like every arm
        command = " ".join(["python -m bench.training", *sys.argv[1:]])
        directory = obtain("HuggingFaceTB/SmolLM2-135M-Instruct", print)
        cpu = choose(SMALL_MODEL, device="cpu")
        kept = FP32_RESULTS if cpu.autocast_dtype is None else BFLOAT16_RESULTS
        machine = describe() + f"- {cpu.name}\n- load at the start: {os.getloadavg()[0]:.1f} processes\n"
        measure(
            [(options.workload, arm, directory, options.steps) for arm in options.arms],
            options.repeats,
            device="cpu",
            limit_s=lambda: options.limit_s,
            keep=lambda found: kept.write_text(json.dumps({"machine": machine, "command": command, "results": found})),
        )
    render()
    return 0


def measure(
    runs: Sequence[tuple[str, str, Path, int]],
    repeats: int,
    *,
    device: str,
    limit_s: Callable[[], float],
    keep: Callable[[list[Result]], object],
) -> list[Result]:
    """Every (workload, arm, model, steps), `repeats` times, taking turns; `keep` gets what there is after each run.

    Stops where no time is left.
    """
    results: list[Result] = []
    for seed in range(repeats):
        for workload, arm, directory, steps in runs:
            left = limit_s()
            if left <= 0:
                print("no time left", flush=True)
                return results
            results.append(run_arm(workload, arm, directory, device=device, steps=steps, seed=seed, limit_s=left))
            keep(results)
    return results


if __name__ == "__main__":
    sys.exit(main())
