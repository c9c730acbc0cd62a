"""Rounds without a boss.

Time is cut into ticks that start at the contract's genesis. The number of a round is the tick at which it starts, so a
number alone says when the round began, which block gives its seed and when each stage is due. A round is over when all
who take part have finished it, and at the latest `round_s` after its start; the next one starts at the first tick
after that. Peers that saw the same announcements compute the same number; peers that did not follow the majority.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass

from swarm.recipe.schema import Stage, Timing

SETTLE_S = 1.0
"""Seconds between the last peer's finish and the next start: time for the announcement to reach everybody."""


def lifetime_s(timing: Timing) -> float:
    """How long the announcements of a round stay in the DHT."""
    return min(3600.0, 3.0 * timing.round_s + 60)


@dataclass(frozen=True)
class Clock:
    """When things happen, in unix seconds."""

    genesis: int
    timing: Timing

    def start(self, number: int) -> float:
        """When a round starts."""
        return self.genesis + number * self.timing.tick_s

    def due(self, number: int, stage: Stage) -> float:
        """When the records of a stage are due."""
        return self.start(number) + getattr(self.timing, stage) * self.timing.round_s

    def end(self, number: int) -> float:
        """When a round is over for those who wait for others."""
        return self.start(number) + self.timing.round_s

    def first_after(self, moment: float) -> int:
        """The first round that starts at or after a moment."""
        return max(0, math.ceil((moment - self.genesis) / self.timing.tick_s))

    def plausible(self, number: int, moment: float) -> bool:
        """Whether somebody may be in this round now: it has begun, or is about to, and is not long over."""
        return self.start(number) <= moment + 2 * SETTLE_S and moment < self.end(number) + self.timing.round_s


def next_round(
    clock: Clock,
    current: int,
    *,
    me: str,
    expected: Set[str],
    finished: Mapping[str, float],
    playing: Mapping[str, int],
    now: float,
) -> int | None:
    """The round to start next, or None while there is reason to wait.

    Args:
        current: the round that this peer has finished, or watched as a newcomer.
        expected: the live peers that take part, this one included.
        finished: when each peer finished `current`, by its own signed word; later than `now` counts as `now`.
        playing: the round that each other live peer says it is in.
    """
    others = [playing[peer] for peer in expected if peer != me and peer in playing]
    ahead = Counter(number for number in others if number > current and clock.plausible(number, now))
    if ahead:
        number, count = max(ahead.items(), key=lambda entry: (entry[1], entry[0]))
        if 2 * count > len(others) and now < clock.due(number, "answer"):
            return number
    if expected <= set(finished):
        last = max(min(finished[peer], now) for peer in expected)
        settle = SETTLE_S if len(expected) > 1 else 0.0
        return max(current + 1, clock.first_after(last + settle))
    if now >= clock.end(current):
        return max(current + 1, clock.first_after(clock.end(current)), clock.first_after(now - clock.timing.round_s))
    return None


def larger_crowd(clock: Clock, current: int, *, others: int, strangers: Collection[int], now: float) -> int | None:
    """The round of a part of the swarm that went its own way, where more play than in this peer's own part; or None.

    Peers that could not hear each other for a while play rounds of their own, and find together again by this: the
    smaller part goes over to the larger one, and of two as large the one that finishes sooner to the one that began
    later.

    Args:
        current: the round that this peer has finished, or watched as a newcomer.
        others: how many live peers take part in it, besides this one.
        strangers: the rounds that all other live peers say they are in.
    """
    ahead = Counter(number for number in strangers if number > current and clock.plausible(number, now))
    number, count = max(ahead.items(), key=lambda entry: (entry[1], entry[0]), default=(0, 0))
    return number if count > others else None
