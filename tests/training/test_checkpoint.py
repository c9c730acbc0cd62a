"""What was saved comes back exactly, and a save that was cut off leaves the one before it."""

import os

import pytest
import torch

from swarm.errors import SwarmError
from swarm.recipe.schema import Lora
from swarm.training import checkpoint
from tests.training.training_helpers import experience, weights


@pytest.mark.parametrize("lora", [None, Lora(rank=4, alpha=8.0, dropout=0.1)])
def test_the_next_loss_is_bit_identical_after_restore(load, tmp_path, lora):
    learner = load(lora=lora)
    groups = experience(learner)
    learner.update(groups)
    learner.update(groups)
    learner.save(tmp_path)
    fingerprint = learner.fingerprint
    expected = learner.update(groups)

    fresh = load(lora=lora)
    assert fresh.fingerprint != fingerprint
    fresh.restore(tmp_path)
    assert fresh.fingerprint == fingerprint
    assert fresh.updates == 2
    report = fresh.update(groups)
    assert (report.loss, report.grad_norm) == (expected.loss, expected.grad_norm)
    assert all(torch.equal(weight, weights(fresh)[name]) for name, weight in weights(learner).items())


def test_a_save_that_is_cut_off_leaves_the_one_before(load, tmp_path, monkeypatch):
    learner = load()
    learner.save(tmp_path)
    saved = learner.fingerprint
    learner.update(experience(learner))

    def killed(*_):
        raise KeyboardInterrupt

    for name in ("save_file", "_flush"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, name, killed)
            with pytest.raises(KeyboardInterrupt):
                learner.save(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            learner.save(tmp_path)
    fresh = load()
    fresh.restore(tmp_path)
    assert fresh.fingerprint == saved

    learner.save(tmp_path)
    fresh.restore(tmp_path)
    assert fresh.fingerprint == learner.fingerprint
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == ["", ".json", *[".safetensors"] * 2]


def test_what_does_not_fit_is_refused_and_changes_nothing(load, tmp_path):
    learner = load()
    before = learner.fingerprint
    with pytest.raises(SwarmError, match="holds no checkpoint"):
        learner.restore(tmp_path)
    other = load(lora=Lora(rank=4, alpha=8.0))
    other.save(tmp_path / "lora")
    with pytest.raises(SwarmError, match="another model, LoRA rank or optimiser"):
        learner.restore(tmp_path / "lora")

    learner.save(tmp_path / "full")
    damaged = next((tmp_path / "full").rglob("optimizer.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(SwarmError, match="damaged"):
        learner.restore(tmp_path / "full")
    assert learner.fingerprint == before
