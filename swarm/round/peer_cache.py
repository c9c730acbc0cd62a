"""Where the peers of a swarm were last, kept in the journal for the next start."""

from collections.abc import Mapping

from swarm.journal.journal import Journal
from swarm.network.addresses import well_formed

MAX_ADDRESSES = 32
_KEY = "addresses"


class PeerCache:
    """The addresses that peers gave in their heartbeats, the latest first."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def addresses(self) -> list[str]:
        return (self._journal.get(_KEY) or "").split()

    def add(self, addresses: Mapping[str, str]) -> None:
        """Note where peers are, by peer id. A peer can give an address of its own only, and one."""
        good = well_formed(address for peer, address in addresses.items() if address.endswith(f"/p2p/{peer}"))
        here = {address.rpartition("/")[2] for address in good}
        before = [address for address in self.addresses() if address.rpartition("/")[2] not in here]
        self._journal.put(_KEY, " ".join([*sorted(good), *before][:MAX_ADDRESSES]))
