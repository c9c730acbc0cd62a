"""This peer's own live announcements, kept where readers look.

Promise: an announcement made while the peer was alone, or while its readers' nodes came and went, is stored at the
nodes that should hold it as soon as they are known, until it expires; nothing is sent again to a node that has it.
"""

import asyncio
import logging
import time
from collections import defaultdict

from hivemind.dht.routing import DHTID
from hivemind.p2p import PeerID

from swarm.identity.key import Identity
from swarm.network.announcements import (
    MAX_LIFETIME_S,
    SHARDS,
    Announcement,
    encode_record,
    make,
    record_key,
    shard_of,
)
from swarm.network.dht import REPLICAS, SwarmNode

_log = logging.getLogger(__name__)

_CONFIRM_AGAIN_S = 60.0
_RETRY_S = 5.0
_FIRST_LOOK_S = 5.0
_LOOK_AGAIN_S = 30.0


class _Own:
    def __init__(self, announcement: Announcement, key: DHTID) -> None:
        self.announcement = announcement
        self.key = key
        self.raw = encode_record(announcement)
        self.next_try: dict[PeerID, float] = {}
        self.homes: list[PeerID] = []
        self.look_at = 0.0


class Board:
    """Used from the network's loop only. `node` is replaced when the daemon was restarted."""

    def __init__(self, identity: Identity, swarm_id: str, node: SwarmNode) -> None:
        self._identity, self._swarm_id, self.node = identity, swarm_id, node
        self._own: dict[str, _Own] = {}
        self._publishing = asyncio.Lock()

    async def announce(self, slot: str, value: bytes, lifetime_s: float) -> Announcement:
        """Sign, keep and publish. A second announcement in a slot replaces the first, so it expires later than that.

        Raises:
            ValueError: slot, value or lifetime is out of bounds.
        """
        if not 0 < lifetime_s <= MAX_LIFETIME_S:
            raise ValueError(f"an announcement lives up to {MAX_LIFETIME_S:.0f} s, not {lifetime_s}")
        expiry_ms = round((time.time() + lifetime_s) * 1000)
        before = self._own.get(slot)
        if before is not None:
            expiry_ms = max(expiry_ms, round(before.announcement.expires * 1000) + 1)
        announcement = make(self._identity, self._swarm_id, slot, value, expiry_ms)
        key = DHTID.from_bytes(record_key(self._swarm_id, slot, shard_of(self._identity.peer_id)))
        own = self._own[slot] = _Own(announcement, key)
        self._store_here(own)
        await self._send({slot: own})
        return announcement

    def latest(self, slot: str) -> Announcement:
        """The announcement that stands in a slot. Raises KeyError if there is none."""
        return self._own[slot].announcement

    async def publish(self) -> None:
        """Bring every live announcement to the nodes that should hold it and do not. Cheap when there are none."""
        async with self._publishing:
            now = time.time()
            self._own = {slot: own for slot, own in self._own.items() if own.announcement.expires > now}
            await self._send(self._own)

    def adopt(self, node: SwarmNode) -> None:
        """Go on with a new node."""
        self.node = node
        for own in self._own.values():
            own.next_try.clear()
            self._store_here(own)

    def keys(self, slot: str) -> list[DHTID]:
        """The DHT keys of all shards of a slot."""
        return [DHTID.from_bytes(record_key(self._swarm_id, slot, shard)) for shard in range(SHARDS)]

    def _store_here(self, own: _Own) -> None:
        announcement = own.announcement
        self.node.protocol.keep(own.key.to_bytes(), announcement.peer_id, own.raw, announcement.expires)

    async def _send(self, announcements: dict[str, _Own]) -> None:
        now = time.monotonic()
        parcels: dict[PeerID, list[_Own]] = defaultdict(list)
        for own in list(announcements.values()):
            for peer in await self._homes(own):
                if peer != self.node.peer_id and own.next_try.get(peer, 0.0) <= now:
                    own.next_try[peer] = now + _RETRY_S
                    parcels[peer].append(own)
        await asyncio.gather(*(self._deliver(peer, parcel) for peer, parcel in parcels.items()))

    async def _homes(self, own: _Own) -> list[PeerID]:
        if self.node.knows_all():
            return list(self.node.nearest(own.key, REPLICAS).values())
        now = time.monotonic()
        if own.look_at <= now and not (own.look_at == 0.0 and self.node.knows_most()):
            own.look_at = now + _LOOK_AGAIN_S  # one search at a time
            own.homes = list((await self.node.homes(own.key)).values())
        elif own.look_at == 0.0:
            own.look_at = now + _FIRST_LOOK_S
        return own.homes or list(self.node.nearest(own.key, REPLICAS).values())

    async def _deliver(self, peer: PeerID, parcel: list[_Own]) -> None:
        stored = await self.node.protocol.call_store(
            peer,
            [own.key for own in parcel],
            [own.raw for own in parcel],
            [own.announcement.expires for own in parcel],
            [own.announcement.peer_id for own in parcel],
        )
        for own, accepted in zip(parcel, stored or [], strict=False):
            if accepted:
                own.next_try[peer] = time.monotonic() + _CONFIRM_AGAIN_S
            else:
                _log.debug("%s did not store %s", peer, own.announcement.slot)
