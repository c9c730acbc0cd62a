"""When an epoch is counted, and in what order peers propose what it came to. Everything follows from the clock."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from swarm.round.assignment import draw
from swarm.round.clock import Clock

MANIFEST_SHARE = 0.25
"""Share of a round that peers have to say what they have seen, and then to accept a proposal before the next one."""
MIN_TERM_S = 4.0
MAX_TERM_S = 60.0


@dataclass(frozen=True)
class Epochs:
    """An epoch holds the rounds that start in it; it is counted a whole round after its end, when the last is over."""

    clock: Clock
    epoch_s: int

    @property
    def term_s(self) -> float:
        """How long a proposer's turn is."""
        return min(MAX_TERM_S, max(MIN_TERM_S, MANIFEST_SHARE * self.clock.timing.round_s))

    def end(self, epoch: int) -> float:
        """When an epoch ends, unix seconds."""
        return self.clock.genesis + (epoch + 1) * self.epoch_s

    def counted_from(self, epoch: int) -> float:
        """When all rounds of an epoch are over, so that peers say what they have seen."""
        return self.end(epoch) + self.clock.timing.round_s

    def proposed_from(self, epoch: int) -> float:
        """When the first proposer's turn begins."""
        return self.counted_from(epoch) + self.term_s

    def given_up(self, epoch: int) -> float:
        """When an epoch without a settlement is left to the next one."""
        return self.counted_from(epoch + 1)

    def turn(self, epoch: int, moment: float) -> int:
        """Whose turn it is to propose: 0 for the first in the order, -1 before."""
        return math.floor((moment - self.proposed_from(epoch)) / self.term_s)

    def due(self, moment: float) -> int:
        """The latest epoch that is to be counted at a moment; -1 before the first."""
        return math.floor((moment - self.clock.timing.round_s - self.clock.genesis) / self.epoch_s) - 1

    def epoch_of(self, number: int) -> int:
        """The epoch in which a round starts."""
        return int(number * self.clock.timing.tick_s // self.epoch_s)

    def rounds(self, first: int, last: int) -> range:
        """The numbers of the rounds that start in the epochs `first` to `last`."""
        tick_s = self.clock.timing.tick_s
        return range(math.ceil(first * self.epoch_s / tick_s), math.ceil((last + 1) * self.epoch_s / tick_s))


def proposers(seed: bytes, peers: Collection[str]) -> list[str]:
    """In what order peers propose, drawn by the seed of the epoch."""
    return sorted(peers, key=lambda peer: draw(seed, "proposer", peer))
