"""Who each peer belonged to at a block, from the registry's events: the same for everybody, whenever it is asked."""

import threading
from collections.abc import Mapping

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from swarm.chain.client import Log
from swarm.chain.registry import NO_ADDRESS, Registry

_LINKED = keccak(text="OwnerLinked(address,address)")
_UNLINKED = keccak(text="OwnerUnlinked(address,address)")
_ROTATED = keccak(text="KeyRotated(address,address,address)")
_EARLIER_S = 86_400
"""A registry may be deployed so long before its genesis."""


class OwnerHistory:
    """The links between peers and owners of one registry. Safe to use from several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._changes: list[tuple[int, str, str]] = []  # block, account, owner
        self._read_to: int | None = None

    def at(self, moment: float) -> Mapping[str, str]:
        """The owner of each linked peer, both as accounts, in the first block at or after a moment (unix seconds).

        Raises:
            ChainUnavailable: no answer.
        """
        chain = self._registry.chain
        block = chain.first_block_at(int(moment)) or chain.head()
        with self._lock:
            if self._read_to is None:
                first = chain.first_block_at(max(0, self._registry.terms().genesis - _EARLIER_S))
                self._read_to = first.number - 1 if first else -1
            if block.number > self._read_to:
                logs = [
                    log
                    for event in (_LINKED, _UNLINKED, _ROTATED)
                    for log in chain.logs(self._registry.address, [event], self._read_to + 1, block.number)
                ]
                # within a block a key moves before its new links, and a link ends before another begins
                order = (_ROTATED, _UNLINKED, _LINKED)
                for log in sorted(logs, key=lambda log: (log.block_number, order.index(log.topics[0]))):
                    self._changes += _changes(log)
                self._read_to = block.number
            owners: dict[str, str] = {}
            for number, account, owner in self._changes:
                if number <= block.number:
                    owners[account] = owner
            return {account: owner for account, owner in owners.items() if owner != NO_ADDRESS}


def _changes(log: Log) -> list[tuple[int, str, str]]:
    accounts = [to_checksum_address(topic[-20:]) for topic in log.topics[1:]]
    if log.topics[0] == _ROTATED:
        old, new, owner = accounts
        return [(log.block_number, old, owner), (log.block_number, new, owner)]
    account, owner = accounts
    return [(log.block_number, account, owner if log.topics[0] == _LINKED else NO_ADDRESS)]
