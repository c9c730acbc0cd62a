"""python -m bench.tensors: how many bytes of tensors a step on Qwen2.5-0.5B's shape holds at once, counted on a CPU.

The step is really computed, in the layout, chunks and recorded steps of a GPU, with a memory plan for a GPU of a given
size; every operation's results are counted for as long as anything holds them. What a kernel allocates for itself and
CUDA's own memory are not seen. Takes about half an hour per workload and writes bench/results/tensors.md.
"""

import argparse
import sys
import tempfile
import time
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from bench.arms import PROMPT_CHARACTERS, WORKLOADS, Workload, questions, random_qwen, settings_of
from bench.machine import describe
from swarm.recipe.schema import StageSettings
from swarm.training import head, memory
from swarm.training.learner import Learner, TrainingGroup

RESULT = Path(__file__).parent / "results" / "tensors.md"
GIB = 2**30


class Counting(TorchDispatchMode):
    """Bytes of the storages that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place not in self._known:
            self._known.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.add, result)
        return result

    def since(self) -> int:
        """The peak since this was last asked for."""
        peak, self.peak = self.peak, self.now
        return peak


def measure(name: str, workload: Workload, directory: Path, new_tokens: int) -> dict[str, Any]:
    """One step of sampling and update under a plan for `workload.limit_gb`."""
    assert workload.limit_gb is not None
    counting = Counting()
    limit = int(workload.limit_gb * GIB)
    memory.free_bytes = lambda device: limit - counting.now
    head.CHUNK_BYTES["cpu"] = head.CHUNK_BYTES["cuda"]
    settings, grpo = settings_of(workload)
    if settings.dtype == "float32":
        settings = settings.model_copy(update={"autocast": "bfloat16"})  # as a GPU would choose
    learner = Learner.load(directory, settings, grpo, seed=0, device="cpu", threads=torch.get_num_threads())
    held = [*learner._loaded.model.parameters(), *learner._loaded.model.buffers(), learner._loaded.parts.frozen_head]
    for tensor in held:
        if tensor is not None:
            counting.add(tensor)
    decoder = learner._sampler._decoder  # type: ignore[attr-defined]
    decoder.graphs, decoder.record = True, lambda step, place: step
    texts, _ = questions(workload, 0, workload.prompts_per_step)
    prompts = [learner.encode(text, chat=False, system="") for text in texts]
    stage = StageSettings(samples=workload.samples, max_new_tokens=new_tokens)
    found: dict[str, Any] = {"workload": name, "limit_gb": workload.limit_gb}
    with counting:
        found["plan"] = asdict(learner.plan(PROMPT_CHARACTERS, new_tokens, workload.samples))
        for which in ("first", "second"):  # the optimiser's state comes with the first update
            counting.since()
            started = time.perf_counter()
            drawn = learner.generate(prompts, stage, seed=0)
            found["sampling"] = counting.since()
            decoder.forget()
            signs = (1.0, -1.0) * (workload.samples // 2)
            groups = [
                TrainingGroup(prompt, tuple((one.tokens, one.logprobs) for one in row), signs, True, 1.0)
                for prompt, row in zip(prompts, drawn, strict=True)
            ]
            report = learner.update(groups)
            found["update"] = counting.since()
            found["after"] = counting.now
            print(f"{name}, {which} step: {time.perf_counter() - started:.0f} s, {report}", file=sys.stderr, flush=True)
            found |= {"rows": report.rows, "tokens": report.tokens, "skipped": report.skipped}
    return found


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "# Tensors of a step on Qwen2.5-0.5B's shape",
        "",
        "`python -m bench.tensors`: one step of sampling and update, really computed on a CPU in the layout of a GPU,",
        "with the memory plan that a GPU of that size would get; bytes of all tensors that are alive at once. On a GPU",
        "the memory that kernels take for themselves and CUDA's own come on top: **this is a count,",
        "not a measurement on a GPU**. The second of two steps, random weights, 2 prompts of 100 tokens.",
        "",
        describe(),
        "| workload | GPU of | rows trained, tokens | checkpointing | weights and optimiser | sampling | update |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        rows = one["skipped"] or f"{one['rows']}, {one['tokens']}"
        lines.append(
            f"| {one['workload']} | {one['limit_gb']:g} GiB | {rows} | "
            f"{'yes' if one['plan']['checkpointing'] else 'no'} | "
            + " | ".join(f"{one[what] / GIB:.2f} GiB" for what in ("after", "sampling", "update"))
            + " |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.tensors", description=__doc__)
    p.add_argument("--new-tokens", type=int, default=512)
    p.add_argument("--workloads", nargs="*", default=["qwen-lora-8gb", "qwen-full-12gb"], choices=WORKLOADS)
    p.add_argument("--model", type=Path, help="a directory in place of random weights of Qwen2.5-0.5B's shape")
    p.add_argument("--out", type=Path, default=RESULT)
    options = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.model or Path(scratch)
        if options.model is None:
            random_qwen(directory)
        results: list[dict[str, Any]] = []
        for name in options.workloads:
            results.append(measure(name, WORKLOADS[name], directory, options.new_tokens))
            options.out.write_text(table(results))
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
