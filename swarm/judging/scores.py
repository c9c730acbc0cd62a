"""What a verdict, a critique and a group of rewards are worth. Arithmetic only."""

import math
import statistics
from collections.abc import Sequence

MIN_SPREAD = 0.1
"""Groups whose rewards differ by less are dropped: scaled to unit deviation, their noise would weigh as much as the
difference between right and wrong."""


def proper_score(probability: float, truth: float) -> float:
    """Quadratic score of a probability against a truth in [0, 1] (Brier 1950), scaled to 0 for ignorance (p = 1/2).

    1 is certain and right, -3 certain and wrong. Reporting what one believes maximises the expectation.
    """
    return 1.0 - 4.0 * (truth - probability) ** 2


def critique_form(text: str, finished: bool) -> float:
    """1 for a critique that says something and ends by itself, 1/2 for one that was cut off, 0 for an empty one."""
    if not any(char.isalnum() for char in text):
        return 0.0
    return 1.0 if finished else 0.5


def advantages(rewards: Sequence[float], *, scale: bool) -> list[float]:
    """Group-relative advantages as in GRPO (arXiv 2402.03300); `scale` divides by the group's standard deviation.

    A group without spread gets zeros.
    """
    if not is_informative(rewards):
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if not scale:
        return centred
    deviation = math.sqrt(math.fsum(value * value for value in centred) / (len(rewards) - 1))
    return [value / (deviation + 1e-4) for value in centred]


def is_informative(rewards: Sequence[float]) -> bool:
    """Whether the rewards of a group differ, that is: whether it can teach anything."""
    return len(rewards) > 1 and all(map(math.isfinite, rewards)) and max(rewards) - min(rewards) >= MIN_SPREAD


def evenness(rewards: Sequence[float]) -> float:
    """How evenly rewards divide a group: their variance as a share of the largest that their range allows, in [0, 1].

    It compares groups whose rewards are on different scales, which `advantages` takes out again.
    """
    half = (max(rewards) - min(rewards)) / 2
    return statistics.pvariance(rewards) / half**2 if half else 0.0
