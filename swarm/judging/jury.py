"""The jury of an answer: the weighted log-odds vote of its judges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CERTAIN = 1e-4


@dataclass(frozen=True)
class Vote:
    """One judge's calibrated probability that the answer is right, and the judge's weight in [0, 1]."""

    probability: float
    weight: float


@dataclass(frozen=True)
class Verdict:
    """What the jury found."""

    probability: float | None
    """Soft reward in [0, 1]; None where no judge has weight: no reward rather than a guess."""
    weight: float
    """Sum of the judges' weights: how much to believe it."""


def decide(votes: Sequence[Vote]) -> Verdict:
    """Combine votes; their order does not matter, and a judge without weight changes nothing."""
    weight = math.fsum(vote.weight for vote in votes)
    if weight <= 0:
        return Verdict(None, 0.0)
    log_odds = math.fsum(vote.weight * _log_odds(vote.probability) for vote in votes)
    return Verdict(1.0 / (1.0 + math.exp(-log_odds)), weight)


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, _CERTAIN), 1 - _CERTAIN)
    return math.log(bounded / (1 - bounded))
