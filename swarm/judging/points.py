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


def in_millionths(points: float) -> int:
    return round(points * MILLIONTHS)


def round_points(contributions: Iterable[int]) -> int:
    """What one peer's records of one round earn together, in millionths of a point. A round never costs points.

    A record of critiques contributes the proper scores of its verdicts against the truth, so a judge who guesses earns
    nothing on average, and one who is surer than right loses what its answers earned.
    """
    return max(0, sum(contributions))
