"""Whom to wait for and to fetch from: everybody who is here, except those who lately cost time in vain."""

from collections.abc import Set

MAX_SKIP = 32


class Patience:
    """A peer that keeps others waiting, or announces what it does not deliver, is left alone in the next round, then in
    the next two, four, ...

    Each new chance that it misses costs the others one deadline; whoever publishes in time is forgiven at once.
    """

    def __init__(self) -> None:
        self._misses: dict[str, int] = {}
        self._until: dict[str, int] = {}

    def note(self, ordinal: int, *, published: Set[str], missing: Set[str]) -> None:
        """What the round `ordinal` showed."""
        for peer in published - missing:
            self._misses.pop(peer, None)
            self._until.pop(peer, None)
        for peer in missing:
            self._misses[peer] = self._misses.get(peer, 0) + 1
            self._until[peer] = ordinal + min(2 ** (self._misses[peer] - 1), MAX_SKIP)

    def worth_waiting(self, peers: Set[str], ordinal: int) -> set[str]:
        """Those of `peers` that are waited for in the round `ordinal`."""
        return {peer for peer in peers if ordinal > self._until.get(peer, 0)}
