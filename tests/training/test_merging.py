"""Rules on tensors: what a merge does, what it bears, and what of a peer it never takes."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from swarm.recipe.schema import Lora
from swarm.training import merging
from swarm.training.merging import (
    MAX_CHANGE,
    Stride,
    combine,
    decode,
    encode,
    learning_rate,
    max_blob_bytes,
    merge,
    steps,
)
from swarm.training.wire import WeightsRefused
from tests.training.training_helpers import experience, weights

RULES = ("mean", "median", "trimmed_mean", "reward_weighted")


def delta(seed, scale=0.01):
    """Deltas around the same direction, as peers have them that learn the same."""
    common, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    return {
        name: scale * (torch.randn(shape, generator=common) + 0.5 * torch.randn(shape, generator=noise))
        for name, shape in {"a": (6, 4), "b": (5,)}.items()
    }


OWN, OTHERS = delta(1), {"p": delta(2), "q": delta(3), "r": delta(4)}


def distance(one, other):
    return sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_peers_changes_nothing(rule):
    deltas, rewards = [OWN, *OTHERS.values()], [0.1, 0.2, 0.3, 0.4]
    first = combine(rule, deltas, rewards)
    for order in itertools.permutations(range(4)):
        again = combine(rule, [deltas[i] for i in order], [rewards[i] for i in order])
        assert all(torch.allclose(first[name], again[name], atol=1e-8) for name in first)


def test_each_rule_is_what_it_is_called():
    values = [{"a": torch.tensor([value])} for value in (1.0, 2.0, 4.0, 9.0)]
    expected = {"mean": 4.0, "median": 3.0, "trimmed_mean": 3.0, "reward_weighted": 9.0}
    for rule, value in expected.items():
        assert combine(rule, values, [0, 0, 0, 1])["a"].item() == value
    assert combine("trimmed_mean", values * 2, [1] * 8)["a"].item() == 3.0, "two of eight are cut at each end"
    assert combine("trimmed_mean", values[:2], [1, 1])["a"].item() == 1.5, "of two nothing can be cut"
    assert combine("reward_weighted", values, [0, 0, 0, 0])["a"].item() == 4.0, "nobody earned anything: the mean"


def test_any_number_may_be_missing():
    assert merge("mean", OWN, {}, {}, 0.5).delta is None
    assert merge("trimmed_mean", OWN, {"p": OTHERS["p"]}, {}, 0.5).partners == ("p",)
    newcomer = merge("mean", None, {"p": OTHERS["p"]}, {}, 0.0)
    assert distance(newcomer.delta, OTHERS["p"]) == 0, "who has learnt nothing takes what the others have"


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize("factor", [-1.0, 3.0, -4.0, 1e3])
def test_one_poisoner_of_four_decides_nothing(rule, factor):
    honest = combine("mean", [OWN, OTHERS["p"], OTHERS["q"]], [])
    spread = max(distance(one, honest) for one in (OWN, OTHERS["p"], OTHERS["q"]))
    poison = {name: factor * tensor for name, tensor in OTHERS["r"].items()}
    merged = merge(rule, OWN, {**OTHERS, "r": poison}, {}, 0.5)
    assert distance(merged.delta, honest) < spread


def test_an_outlier_is_left_out_and_counted():
    far = {name: -20 * tensor for name, tensor in OTHERS["r"].items()}
    merged = merge("mean", OWN, {**OTHERS, "r": far}, {}, 0.5)
    assert merged.partners == ("p", "q") and sum(merged.refused.values()) == 1
    assert distance(merged.delta, combine("mean", [OWN, OTHERS["p"], OTHERS["q"]], [])) == 0
    assert merge("mean", OWN, OTHERS, {}, 0.5).refused == {}, "honest peers are no outliers to each other"


def test_who_learns_while_the_others_find_nothing_is_no_outlier():
    nobody = {name: {key: tensor.clone() for key, tensor in OWN.items()} for name in "pq"}
    step = delta(5, scale=0.001)
    learnt = {name: OWN[name] + step[name] for name in OWN}
    stride = distance(learnt, OWN)
    assert merge("mean", OWN, {**nobody, "r": learnt}, {}, 0.5).refused == {"outlier": 1}, "with no idea of a step"
    assert merge("mean", OWN, {**nobody, "r": learnt}, {}, 0.5, stride).partners == ("p", "q", "r")
    far = {name: OWN[name] + 3 * step[name] for name in OWN}
    negated = {name: -OWN[name] for name in OWN}
    for poison in (far, negated):
        assert merge("mean", OWN, {**nobody, "r": poison}, {}, 0.5, stride).refused == {"outlier": 1}


def test_a_stride_is_of_the_own_updates_alone():
    stride, step = Stride(), delta(5)
    stride.arrive(OWN)
    assert stride.length == 0, "where it came from is not known yet"
    stride.leave(OTHERS["p"])  # a merge moved it there
    stride.arrive({name: OTHERS["p"][name] + step[name] for name in OWN})
    assert stride.length == pytest.approx(distance(step, {name: 0 * step[name] for name in step}), rel=1e-5)
    before = stride.length
    stride.leave(OWN)
    stride.arrive(OWN)
    assert stride.length == before, "a round in which it learnt nothing says nothing about a stride"


def test_a_longer_one_of_two_is_refused():
    long = {name: 10 * tensor for name, tensor in OTHERS["p"].items()}
    merged = merge("mean", OWN, {"p": long}, {}, 0.5)
    assert merged.delta is None and merged.refused == {"too long": 1}


def test_a_blob_is_the_delta_in_bfloat16():
    blob = encode(OWN)
    assert len(blob) <= max_blob_bytes(OWN)
    for name, tensor in decode(blob, OWN).items():
        assert tensor.dtype == torch.float32 and torch.allclose(tensor, OWN[name], rtol=2**-8)


def _with(name, tensor):
    return {**{key: value.bfloat16() for key, value in OWN.items()}, name: tensor}


REFUSED = {
    "nan": (save(_with("b", torch.full((5,), torch.nan, dtype=torch.bfloat16))), "not finite"),
    "infinite": (save(_with("b", torch.full((5,), torch.inf, dtype=torch.bfloat16))), "not finite"),
    "huge": (save(_with("b", torch.full((5,), 2 * MAX_CHANGE, dtype=torch.bfloat16))), "too long"),
    "an unknown name": (save(_with("c", torch.zeros(1, dtype=torch.bfloat16))), "another model"),
    "a missing name": (save({"a": OWN["a"].bfloat16()}), "another model"),
    "another shape": (save(_with("b", torch.zeros(4, dtype=torch.bfloat16))), "another model"),
    "another type": (save(_with("b", torch.zeros(5))), "garbage"),
    "long": (encode(OWN) + bytes(5000), "too large"),
    "cut off": (encode(OWN)[:-1], "garbage"),
    "nothing": (b"", "garbage"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_delta_of_this_model_is_refused(case):
    blob, reason = REFUSED[case]
    with pytest.raises(WeightsRefused) as refused:
        decode(blob, OWN)
    assert refused.value.reason == reason


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400), st.booleans())
def test_no_bytes_make_it_crash(noise, place, inside):
    """Noise alone, or written over a place of a good blob."""
    good = encode(OWN)
    blob = good[:place] + noise + good[place + len(noise) :] if inside else noise
    try:
        found = decode(blob, OWN)
    except WeightsRefused:
        return
    assert all(torch.isfinite(tensor).all() for tensor in found.values())


def test_the_rate_follows_the_number_of_peers():
    assert learning_rate(1e-4, 1, 0.5) == 1e-4
    assert learning_rate(1e-4, 4, 0.5) == pytest.approx(2e-4)
    assert learning_rate(1e-4, 4, 0.0) == 1e-4
    assert learning_rate(1e-4, 8, 1.0) == pytest.approx(8e-4) and learning_rate(1e-4, 8, 1.0, 2.5) == 2.5e-4


def test_more_peers_make_more_steps_of_one_update_if_the_recipe_says_so():
    assert [steps("per_peer", peers) for peers in (0, 1, 4)] == [1, 1, 4]
    assert steps("one", 4) == 1


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_a_learner_gives_and_takes_deltas(load, lora):
    teacher, pupil = load(lora=lora), load(lora=lora)
    assert teacher.origin == pupil.origin != load(lora=Lora(rank=3)).origin
    before = weights(pupil)
    teacher.update(experience(teacher))
    assert teacher.origin == pupil.origin and teacher.fingerprint != pupil.fingerprint
    pupil.move_to(decode(encode(teacher.delta()), pupil.delta()))
    for name, tensor in weights(teacher).items():
        assert torch.allclose(weights(pupil)[name], tensor, atol=1e-5)
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(pupil).items())
    assert pupil.fingerprint != load(lora=lora).fingerprint, "records must not name the weights of before"


@pytest.mark.parametrize("count", range(1, 16))
def test_few_rows_and_many_are_sorted_alike(count):
    stacked = torch.randn(count, 7, 3, generator=torch.Generator().manual_seed(count))
    assert torch.equal(merging._sorted(stacked), stacked.sort(dim=0).values)
