"""Every loss against a slow reference: fp64, row by row, no padding, nothing shared, written from the papers."""

import dataclasses

import pytest
import torch

from swarm.training import head
from swarm.training.groups import rows_of
from swarm.training.loss import FETCHED_RATIO_CAP, RATIO_CAP
from tests.training.training_helpers import experience

LOW, HIGH, CAP = 0.2, 0.28, RATIO_CAP


def reference(learner, groups, loss, *, token_mask=None, sequence_mask=None):
    """(loss, gradient) in fp64."""
    trained = learner._loaded.model
    model = type(trained)(trained.config).double()  # a deep copy would keep the trainer's hold on the first model
    model.load_state_dict(trained.state_dict())
    rows = []
    for group in groups:
        for (tokens, behaviour), advantage in zip(group.completions, group.advantages, strict=True):
            if advantage == 0:
                continue
            logits = model(input_ids=torch.tensor([group.prompt + tokens])).logits[0] / group.temperature
            every = torch.log_softmax(logits, dim=-1)
            places = torch.arange(len(group.prompt) - 1, len(group.prompt) - 1 + len(tokens))
            now = every[places, torch.tensor(tokens)]
            old = now.detach() if group.rescored else torch.tensor(behaviour, dtype=torch.float64)
            ratio = (now - old).exp()
            if loss == "gspo":
                ratio = (now - old).mean().exp().expand(len(tokens))
            gain = torch.min(ratio.clamp(max=CAP) * advantage, ratio.clamp(1 - LOW, 1 + HIGH) * advantage)
            if not group.own:
                gain = gain * ((now - old).exp() <= FETCHED_RATIO_CAP)
            if token_mask is not None:
                gain = gain * ((now.exp() - old.exp()).abs() <= token_mask)
            if sequence_mask is not None and advantage < 0 and (old - now).mean() > sequence_mask:
                gain = gain * 0
            rows.append(-gain)
    longest, tokens = max(map(len, rows)), sum(map(len, rows))
    total = {
        "dapo": lambda: torch.cat(rows).sum() / tokens,
        "bnpo": lambda: torch.cat(rows).sum() / tokens,
        "dr_grpo": lambda: torch.cat(rows).sum() / (len(rows) * longest),
        "grpo": lambda: torch.stack([row.mean() for row in rows]).mean(),
        "gspo": lambda: torch.stack([row.mean() for row in rows]).mean(),
    }[loss]()
    total.backward()
    return total.item(), torch.cat([weight.grad.flatten() for weight in model.parameters()]).float()


def compare(learner, groups, loss, **masks):
    value = learner._updater._accumulate(rows_of(groups), 1000)
    ours = torch.cat([weight.grad.flatten() for weight in learner._loaded.trainable.values()])
    expected, gradient = reference(learner, groups, loss, **masks)
    assert value == pytest.approx(expected, abs=1e-5)
    assert (ours - gradient).norm() < 1e-3 * gradient.norm()
    return gradient


@pytest.mark.parametrize("loss", ["dapo", "dr_grpo", "grpo", "bnpo", "gspo"])
def test_fresh_stale_and_foreign_rollouts(load, loss):
    learner = load(loss=loss)
    fresh = experience(learner)[:3]
    stale = experience(learner, seed=1, shift=-0.25)[3:6]
    foreign = [
        dataclasses.replace(group, own=False) for group in experience(learner, seed=2, shift=-1.0, temperature=0.8)[6:]
    ]
    compare(learner, [*fresh, *stale, *foreign], loss)


@pytest.mark.parametrize(
    ("masks", "shift"),
    [({"token_mask": 0.05}, 0.5), ({"sequence_mask": 0.1}, 0.15), ({"token_mask": 0.2, "sequence_mask": 1.0}, 0.5)],
)
def test_masks_leave_out_what_has_changed_too_much(load, masks, shift):
    groups = [*experience(load())[:4], *experience(load(), seed=1, shift=shift)[4:]]
    masked = compare(load(**masks), groups, "dapo", **masks)
    whole = compare(load(), groups, "dapo")
    assert (masked - whole).norm() > 0.05 * whole.norm()


def test_who_claims_low_log_probabilities_gets_no_more_weight(load):
    learner = load()

    def fetched(shift):
        return [dataclasses.replace(group, own=False) for group in experience(learner, shift=shift)]

    honest = compare(learner, fetched(-0.9)[:4], "dapo")
    with_lies = compare(learner, [*fetched(-0.9)[:4], *fetched(-2.0)[4:]], "dapo")
    # the lies count among the tokens by which dapo divides, and in nothing else
    assert torch.nn.functional.cosine_similarity(honest, with_lies, dim=0) > 0.9999


def test_rescored_groups_begin_at_ratio_one_whatever_their_author_wrote(load):
    learner = load()
    groups = [dataclasses.replace(group, rescored=True, own=False) for group in experience(learner, shift=-2.0)]
    compare(learner, groups, "dapo")
    assert learner.update(groups).mean_ratio_drift == 0


def test_winners_pull_with_their_advantage_and_nothing_else_of_their_group_does(load):
    learner = load()
    groups = [dataclasses.replace(group, own=False).winners() for group in experience(learner, shift=-2.0)]
    compare(learner, groups, "dapo")
    rows = rows_of(groups)
    assert rows and all(row.advantage > 0 and row.rescored for row in rows)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_shared_prompts_and_checkpointing_give_the_gradient_of_single_rows(load, monkeypatch, checkpointing):
    learner = load()
    learner._updater._set_checkpointing(checkpointing)
    groups = experience(learner, shift=-0.1)
    monkeypatch.setattr("swarm.training.layout.sharing", lambda *_: 4)
    compare(learner, groups, "dapo")
    monkeypatch.setattr("swarm.training.layout.sharing", lambda *_: 1)
    compare(learner, groups, "dapo")


def test_the_head_in_small_chunks_changes_nothing(load, monkeypatch):
    learner = load()
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 4 * 70 * 5)
    compare(learner, experience(learner, shift=-0.1), "dapo")
