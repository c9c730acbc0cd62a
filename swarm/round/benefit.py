"""Did the swarm help? Paired answers to the same questions, with and without what others made.

Two estimates. Over the merges: by how much, on average, one merge with others changed the share of fresh questions that
this peer answers right, against keeping its own weights of that moment. The gains of rounds do not add up to what the
swarm gave in all: own practice would have brought a part of each, and fetched groups are not in it. Against the twin
(`swarm/round/twin.py`): what this peer answered right after so many rounds, less what its twin did after as many alone.
That is all that the swarm gave, and it takes as long as the twin takes to get there.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Z_95 = 1.96
MIN_MERGES = 5


@dataclass(frozen=True)
class Paired:
    """Answers to the same questions, before and after."""

    gained: int
    """Wrong before and right after."""
    lost: int
    of: int

    @classmethod
    def of_answers(cls, before: Sequence[bool], after: Sequence[bool]) -> "Paired":
        pairs = list(zip(before, after, strict=True))
        return cls(pairs.count((False, True)), pairs.count((True, False)), len(pairs))

    @property
    def gain(self) -> float:
        """Change of the share of right answers, in [-1, 1]."""
        return (self.gained - self.lost) / self.of if self.of else 0.0

    @property
    def falls(self) -> bool:
        """Whether the answers got worse by more than one standard error of the difference (McNemar 1947): with a few
        questions, less would refuse every other harmless change."""
        return self.lost - self.gained > math.sqrt(self.lost + self.gained)


@dataclass(frozen=True)
class Help:
    """A gain in the share of right answers, with a 95% interval."""

    gain: float
    low: float
    high: float
    rounds: int
    """Merges that were tried, those included that were refused afterwards; or rounds of the peer and of its twin."""
    method: str = "paired answers to fresh questions before and after each merge"


def estimate(gains: Sequence[float], questions: int) -> dict[str, Any] | None:
    """`Help` as JSON over the gains of all merges so far, each with so many questions; None before MIN_MERGES.

    A merge is one observation, so that questions of one merge need not be independent. The interval is Wald's, but at
    least one answer wide each way: a few merges that changed no answer are no proof that none does.
    """
    if len(gains) < MIN_MERGES:
        return None
    mean = statistics.fmean(gains)
    half = max(Z_95 * statistics.stdev(gains) / math.sqrt(len(gains)), 1 / max(1, questions * len(gains)))
    return asdict(Help(round(mean, 4), round(mean - half, 4), round(mean + half, 4), len(gains)))


def against_twin(peer: Mapping[int, Sequence[bool]], twin: Mapping[int, Sequence[bool]]) -> dict[str, Any] | None:
    """`Help` as JSON after the largest number of rounds at which both have answered the held-out questions, given which
    each answered right by that number; None where there is none.

    The interval is Wald's for a difference of paired shares, but at least one answer wide each way.
    """
    common = [rounds for rounds in peer if rounds > 0 and len(peer[rounds]) == len(twin.get(rounds, ())) > 0]
    if not common:
        return None
    rounds = max(common)
    paired = Paired.of_answers(twin[rounds], peer[rounds])
    variance = (paired.gained + paired.lost) / paired.of - paired.gain**2
    half = max(Z_95 * math.sqrt(variance / paired.of), 1 / paired.of)
    method = "held-out answers after as many rounds of a twin that learns alone"
    return asdict(
        Help(round(paired.gain, 4), round(paired.gain - half, 4), round(paired.gain + half, 4), rounds, method)
    )
