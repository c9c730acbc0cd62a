"""Weights of peers that started from the same model, made into one: rules on tensors, and nothing about peers.

What is merged is always a *delta*: present minus starting trainable weights, by name. Averaged every few steps, the
weights of several learners are those of one with less noise in its updates (local SGD: Stich 2019, arXiv 1805.09767;
model soups: Wortsman et al. 2022, 2203.05482). Median and trimmed mean by coordinate bound what a minority can do
(Yin et al. 2018, 1803.01498).
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from swarm.recipe.schema import MergeRule
from swarm.training import wire
from swarm.training.model import fingerprint_of

Delta = dict[str, torch.Tensor]
"""Present minus starting weights by name, fp32."""

OUTLIER = 5.0
"""A delta this many times longer, or farther from the coordinate-wise median, than is usual among the others is left
out."""
STRIDES = 2.0
"""No delta is an outlier for being at most this many times as far from the median as a learner moves by itself between
two merges."""
MAX_CHANGE = 100.0
"""No weight of a model moves that far; above it, sums of squares could overflow."""
_FEW = 12


@dataclass(frozen=True)
class Merged:
    delta: Delta | None
    """None where nobody's is left to merge with."""
    partners: tuple[str, ...]
    """Whose deltas are in it, beside the own one; sorted."""
    refused: Counter[str]
    """Deltas left out, by reason."""


class Stride:
    """How far a learner goes by itself between two merges.

    In a round in which few find something to learn, the others stand together at the median, and without this measure
    those few would be outliers. It is of this learner's own updates alone, so that no other peer can stretch it.
    """

    def __init__(self) -> None:
        self.length = 0.0
        """The last time that it moved at all; 0 as long as that is not known."""
        self._left: Delta | None = None

    def arrive(self, own: Delta) -> None:
        """Call with the learner's delta right before a merge."""
        if self._left is not None:
            gone = math.sqrt(sum(float((own[name] - at).square().sum()) for name, at in self._left.items()))
            self.length = gone or self.length

    def leave(self, own: Delta) -> None:
        """Call with its delta right after, whatever became of the merge, and before the first update of a run."""
        self._left = own


class Origin:
    """Where the trainable weights of a model started, from which its deltas are measured."""

    def __init__(self, trainable: Mapping[str, torch.nn.Parameter]) -> None:
        """Call before the first update, and before a checkpoint is restored."""
        self._trainable = trainable
        self.fingerprint = fingerprint_of(trainable.items())
        """SHA-256 (hex) over the names and the starting weights."""
        self._start = {name: weight.detach().clone() for name, weight in trainable.items()}

    @torch.no_grad()
    def delta(self) -> Delta:
        return {name: weight.detach().float() - self._start[name] for name, weight in self._trainable.items()}

    @torch.no_grad()
    def move_to(self, delta: Delta) -> None:
        """Set the weights to start + `delta`."""
        for name, weight in self._trainable.items():
            weight.copy_(self._start[name] + delta[name])


def encode(delta: Delta) -> bytes:
    """A delta in bfloat16: two bytes per weight, each rounded by at most 1/256 of its own size."""
    return wire.encode(delta, torch.bfloat16)


def max_blob_bytes(like: Delta) -> int:
    """No blob of `encode` for a delta of these names and shapes is longer."""
    return wire.max_blob_bytes(like, torch.bfloat16)


def decode(blob: bytes, like: Delta) -> Delta:
    """The delta in a blob, with exactly the names and shapes of `like`, on its device, in fp32.

    Raises:
        WeightsRefused: see `wire.decode`; no weight of a model moves by more than `MAX_CHANGE`.
    """
    return wire.decode(blob, like, torch.bfloat16, MAX_CHANGE)


def merge(
    rule: MergeRule,
    own: Delta | None,
    others: Mapping[str, Delta],
    rewards: Mapping[str, float],
    own_reward: float,
    stride: float = 0.0,
) -> Merged:
    """The own delta and those of others as one, outliers left out.

    Args:
        own: None for a learner that has learnt nothing yet: it takes what the others have.
        rewards: mean rewards of the others, as far as known, in [0, 1]; only `reward_weighted` asks for them.
        stride: `Stride.length` of this learner.
    """
    present = {**({"": own} if own is not None else {}), **others}
    outliers = {peer: reason for peer, reason in _outliers(present, STRIDES * stride).items() if peer != ""}
    partners = tuple(sorted(set(others) - set(outliers)))
    names = ["", *partners] if own is not None else partners
    known = [*rewards.values(), own_reward]
    weights = [own_reward if name == "" else rewards.get(name, statistics.fmean(known)) for name in names]
    delta = combine(rule, [present[name] for name in names], weights) if partners else None
    return Merged(delta, partners, Counter(outliers.values()))


def combine(rule: MergeRule, deltas: Sequence[Delta], rewards: Sequence[float]) -> Delta:
    """One delta of several by the recipe's rule, whatever their order.

    trimmed_mean leaves out, at each coordinate, the largest and the smallest quarter (one of each at least, where
    there are three): of 3 or 4 it is the median, and one poisoner among them decides nothing.
    """
    return {name: _combine(rule, torch.stack([delta[name] for delta in deltas]), rewards) for name in deltas[0]}


def learning_rate(base: float, contributors: int, power: float, most: float = math.inf) -> float:
    """The rate for an update whose result is merged from so many deltas, the own one included: base * n ** power.

    Averaging n independent updates divides the variance of their sum by n; with power 1/2 the noise of a step stays
    what it is for a peer alone.

    Args:
        most: times `base`, whatever the number of peers. Adam's first steps are as long as the rate allows, however
            small the gradient: at the rate of many, a few of them can ruin a model.
    """
    return base * min(most, max(1, contributors) ** power)


def steps(how: Literal["one", "per_peer"], contributors: int) -> int:
    """Optimiser steps of an update whose result is merged from so many deltas, the own one included.

    per_peer: with n peers a step is made on an n-th of each one's groups, so that all of them together put into a step
    what a peer alone puts into it, and n steps come out of the work of one.
    """
    return max(1, contributors) if how == "per_peer" else 1


def _combine(rule: MergeRule, stacked: torch.Tensor, rewards: Sequence[float]) -> torch.Tensor:
    count = len(stacked)
    if rule == "reward_weighted" and math.fsum(rewards) > 0:
        weights = torch.tensor(rewards, device=stacked.device) / math.fsum(rewards)
        return torch.tensordot(weights, stacked, dims=1)
    cut = {"median": (count - 1) // 2, "trimmed_mean": min(-(-count // 4), (count - 1) // 2)}.get(rule, 0)
    kept = _sorted(stacked)[cut : count - cut] if cut else stacked
    return kept.mean(dim=0)


def _sorted(stacked: torch.Tensor) -> torch.Tensor:
    """Sorted along the first dimension: of a few rows by exchanging neighbours, in a third of the time."""
    if len(stacked) > _FEW:
        return stacked.sort(dim=0).values
    rows = list(stacked)
    for turn in range(len(rows)):
        for at in range(turn % 2, len(rows) - 1, 2):
            rows[at : at + 2] = torch.minimum(*rows[at : at + 2]), torch.maximum(*rows[at : at + 2])
    return torch.stack(rows)


def _outliers(present: Mapping[str, Delta], near: float) -> dict[str, str]:
    """Who is far from the rest, and in what: each is compared with the median of the same measure over the others, and
    whoever is within `near` of the median of each coordinate is not far."""
    distances, lengths = torch.zeros(len(present)), torch.zeros(len(present))
    for name in next(iter(present.values()), {}):
        stacked = torch.stack([delta[name] for delta in present.values()])
        distances += (stacked - _combine("median", stacked, ())).square().flatten(1).sum(dim=1).cpu()
        lengths += stacked.square().flatten(1).sum(dim=1).cpu()
    found = {}
    for measure, reason, least in ((distances.tolist(), "outlier", near), (lengths.tolist(), "too long", 0.0)):
        for place, peer in enumerate(present):
            usual = measure[:place] + measure[place + 1 :]
            if usual and measure[place] > max(OUTLIER**2 * statistics.median(usual), least**2):
                found[peer] = reason
    return found
