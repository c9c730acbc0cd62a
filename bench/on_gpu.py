"""python -m bench.on_gpu --smollm DIR --out FILE: every GPU measurement, on a machine that needs no network.

Real SmolLM2-135M weights come from DIR (without it those rows are left out); Qwen2.5-0.5B's shape gets random weights,
which are as fast and as large as real ones. Where vLLM is installed, sampling with it is measured too, ours and TRL's.
Copy FILE to bench/results/training_gpu.json, then `python -m bench.training --render` puts its rows into the table.
With `--collective MINUTES` it then measures what peers gain from each other, into collective-smollm2-gpu.jsonl beside
FILE (`python -m bench.collective --table`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import torch

from bench.arms import random_qwen
from bench.machine import describe
from bench.training import Result, measure, table
from swarm.recipe.schema import Grpo, Lora, Model, StageSettings
from swarm.training import smollm2, tiny
from swarm.training.learner import Learner, TrainingGroup

Run = tuple[str, str, Path, int]


def check_graphs(directory: Path) -> dict[str, object]:
    """Recorded steps against plain ones: the same tokens and log-probabilities, and again after an update."""
    found: dict[str, object] = {}
    for name, lora, autocast in (("fp32", None, "none"), ("lora, bfloat16", Lora(), "bfloat16")):
        learner = Learner.load(
            directory,
            Model(id="tiny", lora=lora, autocast=autocast),  # type: ignore[arg-type]
            Grpo(learning_rate=1e-3),
            seed=0,
            device="cuda",
        )
        decoder = learner._sampler._decoder  # type: ignore[attr-defined]
        prompts = [learner.encode(f"{word}>", chat=False, system="") for word in ("sun", "table", "Rome", "ink")]
        stage = StageSettings(samples=8, max_new_tokens=40)
        for when in ("before", "after"):
            decoder.graphs = True
            recorded = learner.generate(prompts, stage, seed=1)
            used = decoder.graphs
            decoder.graphs = False
            plain = learner.generate(prompts, stage, seed=1)
            pairs = list(zip(chain(*recorded), chain(*plain), strict=True))
            apart = [
                abs(x - y)
                for a, b in pairs
                if a.tokens == b.tokens
                for x, y in zip(a.logprobs, b.logprobs, strict=True)
            ]
            found[f"{name}, {when} an update"] = {
                "graphs": used,
                "same": f"{sum(a.tokens == b.tokens for a, b in pairs)} of {len(pairs)}",
                "largest difference of log-probabilities": max(apart, default=None),
            }
            groups = [
                TrainingGroup(prompt, tuple((one.tokens, one.logprobs) for one in row), (1.0, -1.0) * 4, True, 1.0)
                for prompt, row in zip(prompts, recorded, strict=True)
            ]
            report = learner.update(groups)
            found[f"{name}, drift {when}"] = report.mean_ratio_drift if report.skipped is None else report.skipped
    return found


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.on_gpu", description=__doc__)
    p.add_argument("--smollm", type=Path, help="directory with SmolLM2-135M-Instruct as save_pretrained writes it")
    p.add_argument("--out", type=Path, default=Path("training_gpu.json"))
    p.add_argument("--minutes", type=float, default=8, help="after which no further run starts, and none goes on")
    p.add_argument("--collective", type=float, metavar="MINUTES", help="then bench.collective with SmolLM2 for so long")
    p.add_argument("--repeats", type=int, default=2)
    options = p.parse_args()
    if not torch.cuda.is_available():
        p.error("PyTorch sees no CUDA device on this machine")
    if options.collective and options.smollm is None:
        p.error("--collective needs --smollm")
    deadline = time.monotonic() + options.minutes * 60
    gpu = f"- GPU: {torch.cuda.get_device_name()}" + (f", vllm {version('vllm')}" if find_spec("vllm") else "")
    result: dict[str, object] = {"machine": f"{describe()}{gpu}\n"}

    def left() -> float:
        return deadline - time.monotonic()

    with tempfile.TemporaryDirectory() as scratch:
        small, qwen = Path(scratch) / "tiny", Path(scratch) / "qwen"
        tiny.build(small, print)
        try:
            result["graphs"] = check_graphs(small)
        except Exception as error:  # noqa: BLE001  # the other measurements go on without it
            result["graphs"] = f"{type(error).__name__}: {error}"
        print(json.dumps(result["graphs"], indent=1), flush=True)
        torch.cuda.empty_cache()
        random_qwen(qwen)
        arms = ["ours", "trl", *(["ours-vllm", "trl-vllm"] if find_spec("vllm") else [])]
        sets: list[list[Run]] = [
            [
                ("qwen-lora-8gb", "ours", qwen, 3),
                ("qwen-full-12gb", "ours", qwen, 3),
                *(("qwen-lora", arm, qwen, 3) for arm in arms),
            ]
        ]
        if options.smollm is not None:
            steps = {"smollm2": 30, "smollm2-long": 6}
            sets.insert(0, [(name, arm, options.smollm, steps[name]) for name in steps for arm in arms])
            sets.append([("smollm2", "anchor", options.smollm, 4)])
        results: list[Result] = []

        def keep(found: list[Result]) -> None:
            options.out.write_text(json.dumps({**result, "results": results + found}))

        for number, runs in enumerate(sets):
            repeats = options.repeats if number == 0 else 1
            results += measure(runs, repeats, device="cuda", limit_s=left, keep=keep)
    print("\n".join(table(results)))
    return collective(options.smollm, options.out, options.collective) if options.collective else 0


def collective(smollm: Path, out: Path, minutes: float) -> int:
    """`python -m bench.collective` with the real model from a directory; its exit status."""
    with tempfile.TemporaryDirectory() as cache:
        (Path(cache) / smollm2.MODEL.replace("/", "--")).symlink_to(smollm.resolve())
        command = [sys.executable, "-m", "bench.collective", "--model", "smollm2", "--device", "cuda"]
        command += ["--minutes", str(minutes), "--out", str(out.with_name("collective-smollm2-gpu.jsonl"))]
        return subprocess.run(command, env={**os.environ, "SWARM_CACHE": cache}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
