"""How much one remote peer may ask of this one. Promise: a flooder uses up its own allowance and nobody else's.

Peers that are not (yet) known as members share one allowance, so that a thousand invented identities get what one gets.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

GUESTS = "guests"
_MAX_BUCKETS = 4096


@dataclass(frozen=True)
class Rate:
    """Tokens regained per second, and the most that can be saved up."""

    per_second: float
    burst: float


class TokenBuckets:
    """One token bucket per name, the least recently used forgotten first."""

    def __init__(self, rate: Rate, clock: Callable[[], float] | None = None) -> None:
        self._rate = rate
        self._clock = clock or time.monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, amount: float) -> bool:
        """Take `amount` tokens if they are there, else nothing."""
        level = self._level(name)
        if level < amount:
            return False
        self._set(name, level - amount)
        return True

    def owe(self, name: str, amount: float) -> float:
        """Take `amount` tokens on credit; the seconds to wait until the debt is paid."""
        level = self._level(name) - amount
        self._set(name, level)
        return max(0.0, -level / self._rate.per_second)

    def _level(self, name: str) -> float:
        level, then = self._buckets.get(name, (self._rate.burst, self._clock()))
        return min(self._rate.burst, level + (self._clock() - then) * self._rate.per_second)

    def _set(self, name: str, level: float) -> None:
        self._buckets[name] = (level, self._clock())
        self._buckets.move_to_end(name)
        while len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
