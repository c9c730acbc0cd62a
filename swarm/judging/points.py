"""What a peer earned in a round: a pure function of records that anyone can recheck."""

import math
from collections.abc import Sequence


def round_points(
    answer_rewards: Sequence[Sequence[float]],
    revision_rewards: Sequence[Sequence[float]],
    verdict_scores: Sequence[float],
) -> float:
    """Points of one peer in one round.

    A group of answers or revisions earns its mean reward; a published verdict earns its proper score against the truth
    or the jury of the others, so that a judge who guesses earns nothing on average. A round never costs points.
    """
    groups = math.fsum(math.fsum(group) / len(group) for group in (*answer_rewards, *revision_rewards) if group)
    return max(0.0, groups + math.fsum(verdict_scores))
