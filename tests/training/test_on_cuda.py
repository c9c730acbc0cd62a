"""Sampling, update, scoring and merging on a fake CUDA device: nothing is on the wrong side."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swarm.recipe.schema import Grpo, Lora, Model, StageSettings
from swarm.training.learner import TrainingGroup

LENGTH = 6
PROMPTS = [(5, 6, 7), (5, 6, 8, 9)]
CASES: list[tuple[Lora | None, dict[str, object]]] = [
    (Lora(rank=4, alpha=8.0), {}),
    (None, {}),
    (Lora(rank=4, alpha=8.0), {"beta": 0.1, "loss": "gspo"}),
    (None, {"optimizer": "adamw_8bit", "sequence_mask": 0.5, "token_mask": 0.5, "loss": "dr_grpo"}),
]


def test_everything_that_a_round_does_keeps_to_the_device(tiny_directory):
    command = [sys.executable, "-m", "tests.training.test_on_cuda", str(tiny_directory)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.split() == ["wrong", "sides", "seen", *map(str, range(len(CASES)))]


def group(own=True, rescored=False):
    completions = (((7,) * LENGTH, (-1.0,) * LENGTH),) * 4
    return TrainingGroup(PROMPTS[0], completions, (1.0, -1.0) * 2, own, 0.7, rescored)


def wrong_sides(cuda):
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device=cuda) + torch.ones(3)
    with pytest.raises(AssertionError, match="index of a GPU"):
        torch.ones(3)[torch.ones(3, dtype=torch.bool, device=cuda)]
    with pytest.raises(AssertionError, match="no numpy"):
        torch.ones(3, device=cuda).numpy()


def a_round(learner, made_up, cuda):
    assert {weight.device for weight in learner._loaded.trainable.values()} == {cuda}
    made_up.whole = LENGTH
    assert learner.plan(20, LENGTH, 4).why.endswith("tried, and they do")
    report = learner.update([group(), group(own=False), group(own=False, rescored=True)])
    assert (report.skipped, report.rows) == (None, 12)
    made_up.whole = 0  # nobody ends
    decoder = learner._sampler._decoder
    assert decoder.graphs, "the steps of a GPU are recorded"
    decoder.record = lambda step, place: step
    for decoder.graphs in (True, False):
        drawn = learner._draw(PROMPTS, 3, LENGTH, 1.0, 1)
        assert [len(row) for row in drawn] == [3, 3]
    assert len(learner.log_likelihood([((5, 6), (7, 8)), ((5, 6, 7), (8,))])) == 2
    stage = StageSettings(samples=1, max_new_tokens=LENGTH)
    [replayed] = learner.replay(PROMPTS[0], [((7,) * LENGTH, False)], stage, seed=0, place=0)
    assert len(replayed.logprobs) == LENGTH
    delta = learner.delta()
    assert {tensor.device for tensor in delta.values()} == {cuda}
    learner.move_to(delta)
    assert {tensor.device.type for tensor in learner.snapshot().weights.values()} == {"cpu"}


def main():
    from tests.training.fake_cuda import CUDA, fake_cuda, learner_on

    with fake_cuda() as made_up:
        wrong_sides(CUDA)
        print("wrong sides seen")
        for number, (lora, options) in enumerate(CASES):
            settings = Model(id="tiny", lora=lora, autocast="none")
            a_round(learner_on(Path(sys.argv[1]), settings, Grpo(learning_rate=1e-3, **options)), made_up, CUDA)
            print(number)


if __name__ == "__main__":
    main()
