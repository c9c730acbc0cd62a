"""The jury of an answer: the weighted log-odds vote of its judges."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from swarm.judging.calibration import Calibration

_CERTAIN = 1e-4


@dataclass(frozen=True)
class Vote:
    """One judge's calibrated probability that the answer is right, and how far the judge is trusted, in [0, 1]."""

    probability: float
    weight: float
    prior: float = 0.0
    """Log-odds that an answer is right before this judge has looked: what it adds to them is its evidence."""
    owner: Hashable = None
    """Votes of one owner count once, as their mean; None for a judge that stands for itself."""


@dataclass(frozen=True)
class Verdict:
    """What the jury found."""

    probability: float | None
    """Soft reward in [0, 1]; None where no judge has weight: no reward rather than a guess."""
    weight: float
    """Sum of the judges' weights: how much to believe it."""


def vote_of(calibration: Calibration, raw: float, owner: Hashable = None) -> Vote:
    """What a judge's raw score says, given what its audits say about the judge."""
    return Vote(calibration.probability(raw), calibration.trust, calibration.prior, owner)


def decide(votes: Sequence[Vote]) -> Verdict:
    """Combine votes as independent evidence (Good 1950); their order does not matter, and a judge without weight
    changes nothing."""
    heard = [vote for vote in votes if vote.weight > 0]
    if not heard:
        return Verdict(None, 0.0)
    by_owner: defaultdict[Hashable, list[Vote]] = defaultdict(list)
    for place, vote in enumerate(heard):
        by_owner[("alone", place) if vote.owner is None else ("owner", vote.owner)].append(vote)
    weight = math.fsum(math.fsum(vote.weight for vote in one) / len(one) for one in by_owner.values())
    evidence = math.fsum(math.fsum(map(_evidence, one)) / len(one) for one in by_owner.values())
    prior = math.fsum(vote.weight * vote.prior for vote in heard) / math.fsum(vote.weight for vote in heard)
    return Verdict(1.0 / (1.0 + math.exp(-(prior + evidence))), weight)


def _evidence(vote: Vote) -> float:
    bounded = min(max(vote.probability, _CERTAIN), 1 - _CERTAIN)
    return vote.weight * (math.log(bounded / (1 - bounded)) - vote.prior)
