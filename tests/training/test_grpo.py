"""The update: right gradient in pieces of any size, nothing odd gets in, nothing goes half way."""

import dataclasses
import math

import pytest
import torch

from swarm.recipe.schema import Lora
from swarm.training import loss as loss_module
from swarm.training.groups import rows_of
from tests.training.training_helpers import experience, weights


def gradient(learner, groups, size):
    """Loss and gradient of the groups in micro-batches of `size`."""
    loss = learner._updater._accumulate(rows_of(groups), size)
    return loss, torch.cat([weight.grad.flatten() for weight in learner._loaded.trainable.values()])


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo", "bnpo"])
def test_micro_batches_add_up_to_the_whole_batch(load, loss, beta):
    learner = load(loss=loss, beta=beta)
    groups = experience(learner, shift=-0.1)
    whole_loss, whole = gradient(learner, groups, 1000)
    for size in (1, 5, 12):
        part_loss, part = gradient(learner, groups, size)
        assert part_loss == pytest.approx(whole_loss, abs=1e-5)
        assert (part - whole).norm() < 1e-4 * whole.norm()


def test_the_loss_is_the_clipped_surrogate_on_behaviour_logprobs(load):
    learner = load(loss="dapo", clip_low=0.2, clip_high=0.28)
    groups = experience(learner, shift=-0.3, temperature=0.8)
    expected, tokens, clipped = 0.0, 0, 0
    for group in groups:
        for (ids, behaviour), advantage in zip(group.completions, group.advantages, strict=True):
            with torch.no_grad():
                logits = learner._loaded.model(input_ids=torch.tensor([group.prompt + ids])).logits[0]
            now = torch.log_softmax(logits / group.temperature, dim=-1)
            for place, token in enumerate(ids):
                ratio = math.exp(now[len(group.prompt) - 1 + place, token].item() - behaviour[place])
                bounded = min(max(ratio, 0.8), 1.28)
                expected -= min(ratio * advantage, bounded * advantage)
                clipped += (ratio > 1.28 and advantage > 0) or (ratio < 0.8 and advantage < 0)
                tokens += 1
    report = learner.update(groups)
    assert report.loss == pytest.approx(expected / tokens, abs=1e-5)
    assert report.tokens == tokens
    assert report.clipped_fraction == pytest.approx(clipped / tokens, abs=1e-6)
    assert report.clipped_fraction > 0.1
    assert report.mean_ratio_drift > 0.1


def test_own_experience_has_no_drift_and_changes_the_weights(load):
    learner = load()
    before, fingerprint = weights(learner), learner.fingerprint
    report = learner.update(experience(learner))
    assert report.skipped is None
    assert (report.groups, report.rows) == (8, 32)
    assert report.mean_ratio_drift < 1e-5
    assert report.clipped_fraction == 0
    assert any(not torch.equal(before[name], weight) for name, weight in weights(learner).items())
    assert learner.fingerprint != fingerprint


def test_groups_are_dealt_to_steps(load):
    whole, by_hand = load(), load()
    groups = experience(whole)
    flat = dataclasses.replace(groups[2], advantages=(0.0,) * 4)  # takes no place in a step
    taught = [*groups[:2], *groups[3:]]
    report = whole.update([*groups[:2], flat, *groups[3:]], 3)
    steps = [by_hand.update(taught[start::3]) for start in range(3)]
    assert (report.steps, report.groups, report.rows, whole.updates) == (3, 7, 28, 3)
    assert all(torch.equal(weight, weights(by_hand)[name]) for name, weight in weights(whole).items())
    tokens = [step.tokens for step in steps]
    for what in ("loss", "grad_norm", "clipped_fraction"):
        mean = sum(getattr(step, what) * count for step, count in zip(steps, tokens, strict=True)) / sum(tokens)
        assert getattr(report, what) == pytest.approx(mean)
    assert report.tokens == sum(tokens)
    assert report.mean_ratio_drift < 1e-5 < steps[1].mean_ratio_drift
    assert whole.update([*groups[:2], flat], 5).steps == 2, "no more steps than there are groups that teach"


def test_a_step_that_fails_leaves_the_others_standing(load, monkeypatch, caplog):
    learner, others = load(), load()
    groups = experience(learner)
    real, calls = loss_module.completion_logprobs, []

    def broken_at_first(*arguments):
        calls.append(1)
        return real(*arguments) * (math.nan if len(calls) == 1 else 1.0)

    others.update(groups[1::2])
    monkeypatch.setattr(loss_module, "completion_logprobs", broken_at_first)
    report = learner.update(groups, 2)
    assert (report.skipped, report.steps, report.groups, learner.updates) == (None, 1, 4, 1)
    assert "1 of 2 steps were left out" in caplog.text
    assert all(torch.equal(weight, weights(others)[name]) for name, weight in weights(learner).items())


def test_rows_without_advantage_are_left_out(load):
    learner = load()
    groups = experience(learner)
    flat = [dataclasses.replace(group, advantages=(0.0,) * 4) for group in groups]
    before = weights(learner)
    report = learner.update(flat)
    assert report.skipped is not None and "nothing to learn from" in report.skipped
    assert all(torch.equal(before[name], weight) for name, weight in weights(learner).items())
    assert learner.updates == 0
    report = learner.update([*flat[:3], *groups[3:]])
    assert (report.groups, report.rows, report.skipped) == (5, 20, None)


@pytest.mark.parametrize(
    "change",
    [
        {"advantages": (math.nan, 1.0, -1.0, 0.5)},
        {"advantages": (math.inf, 1.0, -1.0, 0.5)},
        {"advantages": (1.0, -1.0)},
        {"prompt": ()},
        {"prompt": (5, 10_000)},
        {"prompt": (5, -1)},
        {"temperature": 0.0},
        {"completions": (((5, 6), (-1.0, math.nan)),) * 4},
        {"completions": (((5, 6), (-1.0, 2.0)),) * 4},
        {"completions": (((5, 6), (-1.0,)),) * 4},
        {"completions": (((), ()),) * 4},
    ],
)
def test_a_flawed_group_is_refused_and_the_others_are_trained(load, change):
    learner = load()
    good, bad, *_ = experience(learner)
    bad = dataclasses.replace(bad, **change)
    before = weights(learner)
    alone = learner.update([bad])
    assert alone.skipped is not None and alone.refused_groups == 1
    assert all(torch.equal(before[name], weight) for name, weight in weights(learner).items())
    report = learner.update([good, bad])
    assert (report.skipped, report.groups, report.refused_groups) == (None, 1, 1)


def test_a_gradient_that_is_not_finite_leaves_the_weights_untouched(load):
    learner = load()
    groups = experience(learner)
    with torch.no_grad():
        next(iter(learner._loaded.trainable.values()))[10] = math.inf
    before = weights(learner)
    report = learner.update(groups)
    assert report.skipped is not None and "not a finite number" in report.skipped
    assert all(torch.equal(before[name], weight) for name, weight in weights(learner).items())
    assert all(moments["step"] == 0 for moments in learner._updater.optimizer.state.values())


def test_absurd_behaviour_logprobs_stay_harmless(load):
    learner = load()
    first, *rest = experience(learner)
    absurd = tuple((tokens, (-1000.0,) * len(tokens)) for tokens, _ in first.completions)
    report = learner.update([dataclasses.replace(first, completions=absurd, own=False), *rest])
    assert report.skipped is None
    assert report.grad_norm < 100


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_halves_the_micro_batch_and_gives_the_same_result(load, monkeypatch, error):
    roomy, tight = load(), load()
    groups = experience(roomy)
    expected = roomy.update(groups)

    real, sizes = loss_module.completion_logprobs, []

    def short_of_memory(parts, device, prompts, *rest):
        sizes.append(len(prompts))
        if len(prompts) > 8:
            raise error
        return real(parts, device, prompts, *rest)

    monkeypatch.setattr(loss_module, "completion_logprobs", short_of_memory)
    report = tight.update(groups)
    assert sizes == [32, 16, 8, 8, 8, 8]
    assert (report.skipped, report.rows) == (None, 32)
    assert report.loss == pytest.approx(expected.loss, abs=1e-5)
    for name, weight in weights(roomy).items():
        assert torch.allclose(weight, weights(tight)[name], atol=1e-5)
    tight.update(groups)
    assert sizes[6:] == [8, 8, 8, 8]


def test_no_memory_for_one_row_is_said_and_no_step_is_made(load, monkeypatch):
    learner = load()
    groups = experience(learner)
    before = weights(learner)

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(loss_module, "completion_logprobs", full)
    report = learner.update(groups)
    assert report.skipped is not None and "not enough memory" in report.skipped
    assert all(torch.equal(before[name], weight) for name, weight in weights(learner).items())


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory(load, monkeypatch):
    learner = load()
    groups = experience(learner)

    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(loss_module, "completion_logprobs", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        learner.update(groups)


def test_lora_trains_the_adapter_only_and_penalises_distance_from_the_start(load):
    learner = load(lora=Lora(rank=4, alpha=8.0), beta=0.1)
    assert all("lora_" in name for name in weights(learner))
    groups = experience(learner)
    first = learner.update(groups)
    second = learner.update(groups)
    assert first.skipped is None and second.skipped is None
    assert first.mean_ratio_drift < 1e-5 < second.mean_ratio_drift
