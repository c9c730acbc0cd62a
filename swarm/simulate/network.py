"""An in-memory network with the methods of the real one, for tests and simulations of many peers in one process.

Announcements are signed and checked by the same code as on the wire; blobs are checked by hash. Nothing is delayed or
lost: latency, loss and stalls belong to a later piece.
"""

import threading
import time
from collections.abc import Mapping, Sequence

from swarm.identity.key import Identity
from swarm.network.announcements import Announcement, make
from swarm.network.blobs import BlobRef, BlobUnavailable


class Ether:
    """What all peers of a simulated swarm share."""

    def __init__(self, swarm_id: str) -> None:
        self.swarm_id = swarm_id
        self.lock = threading.Lock()
        self.announcements: dict[str, dict[str, Announcement]] = {}
        self.blobs: dict[str, dict[BlobRef, bytes]] = {}


class SimulatedNetwork:
    """One peer's view of the ether; see `swarm.network.node.Network` for what the methods promise."""

    def __init__(self, ether: Ether, identity: Identity) -> None:
        self.peer_id = identity.peer_id
        self.addresses = [f"/memory/{identity.peer_id}"]
        self._ether = ether
        self._identity = identity
        self._held: dict[BlobRef, bytes] = {}
        ether.blobs[self.peer_id] = self._held

    def announce(self, slot: str, value: bytes, lifetime_s: float) -> Announcement:
        announcement = make(
            self._identity, self._ether.swarm_id, slot, value, expiry_ms=int((time.time() + lifetime_s) * 1000)
        )
        with self._ether.lock:
            self._ether.announcements.setdefault(slot, {})[self.peer_id] = announcement
        return announcement

    def read(self, slot: str, timeout_s: float = 10) -> dict[str, Announcement]:
        now = time.time()
        with self._ether.lock:
            said = self._ether.announcements.get(slot, {})
            return {peer: announcement for peer, announcement in said.items() if announcement.expires > now}

    def put(self, data: bytes) -> BlobRef:
        reference = BlobRef.of(data)
        self._held[reference] = data
        return reference

    def get(self, ref: BlobRef) -> bytes | None:
        return self._held.get(ref)

    def fetch(self, ref: BlobRef, providers: Sequence[str], timeout_s: float) -> bytes:
        for provider in (self.peer_id, *providers):
            data = self._ether.blobs.get(provider, {}).get(ref)
            if data is not None and ref.matches(data):
                return data
        raise BlobUnavailable(f"nobody of {len(providers)} peers has the blob {ref.sha256[:12]}")

    def fetch_many(self, wanted: Mapping[BlobRef, Sequence[str]], timeout_s: float) -> dict[BlobRef, bytes]:
        found = {}
        for ref, providers in wanted.items():
            try:
                found[ref] = self.fetch(ref, providers, timeout_s)
            except BlobUnavailable:
                continue
        return found
