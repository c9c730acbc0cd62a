"""Whom to wait for and to fetch from: everybody who is here, except those who lately cost time in vain."""

from collections.abc import Set

MAX_SKIP = 32


class Patience:
    """A peer that fails once is left alone in the next round, then in the next two, four, ...

    One of these is kept for waiting and one for fetching. Each new chance that a peer misses costs the others one
    deadline; whoever does well is forgiven at once.
    """

    def __init__(self) -> None:
        self._misses: dict[str, int] = {}
        self._until: dict[str, int] = {}

    def note(self, ordinal: int, *, good: Set[str], bad: Set[str]) -> None:
        """What the round `ordinal` showed."""
        for peer in good - bad:
            self._misses.pop(peer, None)
            self._until.pop(peer, None)
        for peer in bad:
            self._misses[peer] = self._misses.get(peer, 0) + 1
            self._until[peer] = ordinal + min(2 ** (self._misses[peer] - 1), MAX_SKIP)

    def worth_it(self, peers: Set[str], ordinal: int) -> set[str]:
        """Those of `peers` that are not left alone in the round `ordinal`."""
        return {peer for peer in peers if ordinal > self._until.get(peer, 0)}
