"""Who each peer belonged to at a block, from the registry's events: the same for everybody, whenever it is asked."""

import threading
from collections.abc import Iterable, Mapping

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from swarm.chain.client import Log
from swarm.chain.registry import NO_ADDRESS, Registry
from swarm.identity.key import address_of

_LINKED = keccak(text="OwnerLinked(address,address)")
_UNLINKED = keccak(text="OwnerUnlinked(address,address)")
_ROTATED = keccak(text="KeyRotated(address,address,address)")
_ORDER = (_ROTATED, _UNLINKED, _LINKED)
"""Of events in one block: a log does not say its place there, and everybody has to read the same."""
_EARLIER_S = 86_400
"""A registry may be deployed so long before its genesis."""


class OwnerHistory:
    """The links between peers and owners of one registry. Safe to use from several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._changes: list[tuple[int, str, str]] = []  # block, account, owner
        self._read_to: int | None = None
        self._asked: dict[int, Mapping[str, str]] = {}

    def of(self, peers: Iterable[str], moment: float) -> dict[str, str]:
        """The owners of those peers, by id, that had one at a moment (unix seconds).

        Raises:
            ChainUnavailable: no answer.
        """
        owners = self._at(int(moment))
        accounts = {peer: address_of(peer) for peer in peers} if owners else {}
        return {peer: owners[account] for peer, account in accounts.items() if account in owners}

    def _at(self, moment: int) -> Mapping[str, str]:
        """The owner of each linked account in the first block at or after a moment."""
        with self._lock:
            if moment not in self._asked:
                chain = self._registry.chain
                found = chain.first_block_at(moment)
                last = found or chain.head()
                self._read(last.number)
                owners: dict[str, str] = {}
                for number, account, owner in self._changes:
                    if number <= last.number:
                        owners[account] = owner
                linked = {account: owner for account, owner in owners.items() if owner != NO_ADDRESS}
                if found is None:
                    return linked
                self._asked[moment] = linked
            return self._asked[moment]

    def _read(self, last: int) -> None:
        chain = self._registry.chain
        if self._read_to is None:
            first = chain.first_block_at(max(0, self._registry.terms().genesis - _EARLIER_S))
            self._read_to = first.number - 1 if first else -1
        if last <= self._read_to:
            return
        logs = [log for event in _ORDER for log in chain.logs(self._registry.address, [event], self._read_to + 1, last)]
        for log in sorted(logs, key=lambda log: (log.block_number, _ORDER.index(log.topics[0]))):
            self._changes += _changes(log)
        self._read_to = last


def _changes(log: Log) -> list[tuple[int, str, str]]:
    accounts = [to_checksum_address(topic[-20:]) for topic in log.topics[1:]]
    if log.topics[0] == _ROTATED:
        old, new, owner = accounts
        return [(log.block_number, old, owner), (log.block_number, new, owner)]
    account, owner = accounts
    return [(log.block_number, account, owner if log.topics[0] == _LINKED else NO_ADDRESS)]
