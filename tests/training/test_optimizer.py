"""Eight bits are nearly as good as thirty-two, and bfloat16 weights keep the small steps they are given."""

import pytest
import torch

from swarm.training.optimizer import AdamW8bit, _in_blocks, _keep, _moments, _no_moments, round_at_random
from tests.training.training_helpers import experience


def descend(optimizer_of, start, steps=60):
    """The way of one matrix down a badly scaled quadratic with noisy gradients."""
    noise = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(start.clone())
    scales = torch.logspace(-0.5, 0.5, start.shape[1])
    optimizer = optimizer_of([weight])
    for _ in range(steps):
        weight.grad = scales * (weight.detach().float() + 0.1 * torch.randn(start.shape, generator=noise))
        weight.grad = weight.grad.to(weight.dtype)
        optimizer.step()
    return weight.detach().float()


def test_eight_bit_moments_go_nearly_the_way_of_fp32():
    start = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    full = descend(lambda w: torch.optim.AdamW(w, lr=0.01, weight_decay=0.1), start)
    small = descend(lambda w: AdamW8bit(w, 0.01, 0.1, seed=0), start)
    assert (full - start).norm() > 0.3 * start.norm()
    assert (small - full).norm() < 0.06 * (full - start).norm()


def test_moments_come_back_close_and_never_as_nothing():
    state = _no_moments(torch.zeros(100, 77))
    values = torch.randn(100, 77, generator=torch.Generator().manual_seed(0))
    squares = values.square() * torch.logspace(-6, 0, 7700).view(100, 77)
    _keep(state, values, squares, torch.Generator().manual_seed(0))
    mean, square = _moments(state, values)
    largest = _in_blocks(values).abs().amax()
    assert (mean - values).abs().max() < 0.01 * largest
    assert bool((square[squares > 0] > 0).all())
    assert state["mean_codes"].dtype == torch.int8 and state["square_codes"].dtype == torch.uint8


def test_random_rounding_is_right_on_average_and_to_a_neighbour():
    values = torch.full((200_000,), 1.001)
    rounded = round_at_random(values, torch.Generator().manual_seed(0))
    assert rounded.dtype == torch.bfloat16
    assert set(rounded.float().unique().tolist()) == {1.0, 1.0078125}
    assert rounded.float().mean().item() == pytest.approx(1.001, abs=1e-4)
    exact = torch.tensor([1.5, -2.0, 0.0])
    assert torch.equal(round_at_random(exact, torch.Generator().manual_seed(0)).float(), exact)


def test_bfloat16_weights_move_by_steps_smaller_than_they_can_hold():
    start = torch.ones(64, 300, dtype=torch.bfloat16)
    weight = torch.nn.Parameter(start.clone())
    optimizer = AdamW8bit([weight], 1e-4, 0.0, seed=0)
    for _ in range(50):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert weight.float().mean().item() == pytest.approx(1 - 50 * 1e-4, abs=5e-4)


def test_a_learner_with_eight_bits_saves_and_goes_on(load, tmp_path):
    learner = load(optimizer="adamw_8bit")
    groups = experience(learner)
    assert learner.update(groups).skipped is None
    learner.save(tmp_path)
    expected = learner.update(groups)
    fresh = load(optimizer="adamw_8bit")
    fresh.restore(tmp_path)
    report = fresh.update(groups)
    assert (report.loss, report.grad_norm) == (expected.loss, expected.grad_norm)
    assert fresh.fingerprint == learner.fingerprint
