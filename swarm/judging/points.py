"""What a peer earned in a round: a pure function of records that anyone can recheck.

Points are counted in whole millionths, so that sums do not depend on their order.
"""

import math
from collections.abc import Iterable, Sequence

MILLIONTHS = 1_000_000
"""In one point."""


def group_points(rewards: Sequence[Sequence[float]]) -> float:
    """Points for groups of answers or revisions: each group earns its mean reward, one without rewards nothing."""
    return math.fsum(math.fsum(group) / len(group) for group in rewards if group)


def judge_points(worth: float, items: int) -> float:
    """Points for the verdicts on `items` answers' groups: what the judge has proved to know, times the work done.

    Linear in work, and each identity has to be proven by audits of its own: whoever splits the work over many of them
    earns no more, and a judge whose verdicts ignore the answers earns nothing.
    """
    return min(max(worth, 0.0), 1.0) * items


def in_millionths(points: float) -> int:
    return round(points * MILLIONTHS)


def round_points(contributions: Iterable[int]) -> int:
    """What one peer's records of one round earn together, in millionths of a point. A round never costs points."""
    return max(0, sum(contributions))
