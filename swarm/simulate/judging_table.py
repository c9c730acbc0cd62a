"""Announcements and blobs that all peers of a simulation see at once, without delay or loss.

For simulations of what peers say to each other; how it travels is not their subject.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from swarm.identity.key import Identity
from swarm.network.announcements import Announcement, make
from swarm.network.blobs import BlobRef


class Table:
    """What has been put on the table."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, Announcement]] = defaultdict(dict)
        self.blobs: dict[BlobRef, bytes] = {}


class Place:
    """One peer's seat, which `Exchange` takes for a network: `swarm.network.node.Network` says what methods promise."""

    def __init__(self, table: Table, swarm: str, identity: Identity) -> None:
        self.peer_id = identity.peer_id
        self._table = table
        self._swarm = swarm
        self._identity = identity

    def announce(self, slot: str, value: bytes, lifetime_s: float) -> Announcement:
        said = make(self._identity, self._swarm, slot, value, int((time.time() + lifetime_s) * 1000))
        self._table.said[slot][self.peer_id] = said
        return said

    def read(self, slot: str, timeout_s: float = 10) -> dict[str, Announcement]:
        return dict(self._table.said[slot])

    def put(self, data: bytes) -> BlobRef:
        reference = BlobRef.of(data)
        self._table.blobs[reference] = data
        return reference

    def fetch_many(self, wanted: Mapping[BlobRef, Sequence[str]], timeout_s: float) -> dict[BlobRef, bytes]:
        return {reference: self._table.blobs[reference] for reference in wanted if reference in self._table.blobs}
