"""A node of the DHT, the part of the network that holds and finds announcements.

Promise: a node's place in the DHT follows from its peer id, so nobody can choose to sit on a key. Every node that
should hold a key is asked, and hivemind's habit of merging foreign entries into the local store is left out.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from hivemind.dht import DHTNode
from hivemind.dht.node import Blacklist
from hivemind.dht.routing import DHTID
from hivemind.dht.traverse import traverse_dht
from hivemind.p2p import P2P, PeerID

from swarm.network.announcements import KEY_BYTES, SHARDS, Announcement
from swarm.network.protocol import BUCKET_SIZE, SwarmProtocol, node_id_of

_log = logging.getLogger(__name__)

REPLICAS = 6
_BEAM = REPLICAS + 2  # nodes nearest to a key that are asked before a search ends
CALL_TIMEOUT_S = 3.0
_PATIENCE_S = 1.5
_SMALL = 64  # peers; beyond, a node holds few of a slot's shards
_KEY_SPACE = 2 ** (8 * KEY_BYTES)
_MAX_HEARD = 20_000  # records, of up to 1.3 KB


class SwarmNode(DHTNode):
    """A DHT node on the running loop, made of `SwarmProtocol`. Knows nobody until it has met someone."""

    protocol: SwarmProtocol
    _background: set[asyncio.Future[Any]]
    _heard: "OrderedDict[DHTID, dict[str, tuple[bytes, float]]]"
    """What was read, by key and writer, so that nobody has to send it again; the key that was read last is last."""

    @classmethod
    async def start(cls, p2p: P2P, protocol_class: type[SwarmProtocol]) -> "SwarmNode":
        """Create the node over a running p2p. What hivemind's own `create` sets up and this leaves out is caching."""
        self = cls(_initialized_with_create=True)
        self.p2p, self.peer_id, self._should_shutdown_p2p = p2p, p2p.peer_id, False
        self.node_id = node_id_of(p2p.peer_id)
        self.num_replicas, self.num_workers, self.chunk_size = REPLICAS, 4, 16
        self.is_alive = True
        self._background = set()
        self._heard = OrderedDict()
        self.blacklist = Blacklist(base_time=4.0, backoff_rate=1.5)
        self.protocol = await protocol_class.create(
            p2p, self.node_id, bucket_size=BUCKET_SIZE, depth_modulo=5, num_replicas=REPLICAS,
            wait_timeout=CALL_TIMEOUT_S, record_validator=protocol_class.validator,
        )  # fmt: skip
        self.protocol.heard_from = self.blacklist.register_success
        return self

    def peers(self) -> list[PeerID]:
        """Everybody in the routing table."""
        return list(self.protocol.routing_table.peer_id_to_uid)

    def knows_all(self) -> bool:
        """Whether the swarm is so small that the routing table holds everybody."""
        return len(self.peers()) < BUCKET_SIZE

    def knows_most(self) -> bool:
        """Whether the routing table seems to hold most of the swarm: good enough to begin with.

        Everybody knows those nearest to itself, and how far they are apart tells how many nodes there are.
        """
        distances = [self.node_id.xor_distance(node) for node in self.nearest(self.node_id, BUCKET_SIZE)]
        return len(distances) < BUCKET_SIZE or len(self.peers()) * distances[-1] > 0.75 * BUCKET_SIZE * _KEY_SPACE

    def nearest(self, key: DHTID, count: int) -> dict[DHTID, PeerID]:
        """The known nodes that are nearest to `key` and not known to be silent."""
        neighbours = self.protocol.routing_table.get_nearest_neighbors(key, BUCKET_SIZE, exclude=self.node_id)
        return dict([(node, peer) for node, peer in neighbours if peer not in self.blacklist][:count])

    async def homes(self, key: DHTID) -> dict[DHTID, PeerID]:
        """The nodes that should hold `key`, looked for through the network."""
        found = await self.find_nearest_nodes([key], k_nearest=REPLICAS, beam_size=_BEAM, exclude_self=True)
        return dict(found[key])

    async def collect(self, keys: Collection[DHTID], found: dict[str, Announcement], timeout_s: float) -> None:
        """Add what the nodes nearest to `keys` hold to `found`, by writer, the latest expiry winning.

        Every such node is asked, since one of them may withhold or be new. Nodes that stay silent for a while are not
        waited for, and when the time is over `found` holds what has arrived.
        """
        for key in keys:
            self._recall(key)
            held = self.protocol.storage.get(key)
            self._add(key, self._heard[key], found)
            if held is not None:
                self._add(key, dict(held.value.items()), found)
        contacts: dict[DHTID, PeerID] = {}
        for key in keys:
            contacts.update(self.nearest(key, BUCKET_SIZE))
        if not contacts:
            return

        async def ask(node: DHTID, queries: Collection[DHTID]) -> dict[DHTID, tuple[tuple[DHTID, ...], bool]]:
            call = asyncio.ensure_future(self._look(contacts[node], queries))
            self._background.add(call)  # goes on when we stop waiting, so that the silent node gets known as such
            call.add_done_callback(self._background.discard)
            await asyncio.wait([call], timeout=_PATIENCE_S)
            answer = call.result() if call.done() and not call.cancelled() else None
            if not answer:
                return {query: ((), False) for query in queries}
            records, neighbours = answer
            contacts.update(neighbours)
            for query, held in records.items():
                if held is not None:
                    self._add(query, dict(held.value.items()), found)
            return {query: (tuple(neighbours), False) for query in queries}

        search = traverse_dht(
            queries=list(keys),
            initial_nodes=list(contacts),
            beam_size=_BEAM,
            num_workers=8,
            queries_per_call=len(keys) if len(self.peers()) < _SMALL else 1,
            get_neighbors=ask,
            visited_nodes={key: {self.node_id} for key in keys},
        )
        try:
            await asyncio.wait_for(search, timeout_s)
        except TimeoutError:
            _log.debug("not every node answered within %.1f s", timeout_s)

    async def _look(self, peer: PeerID, keys: Collection[DHTID]) -> tuple[dict[DHTID, Any], dict[DHTID, PeerID]] | None:
        """As hivemind's `_call_find_with_blacklist`, asking only for what was not heard yet."""
        if peer in self.blacklist:
            return None
        had = {key: [raw for raw, _ in self._heard.get(key, {}).values()] for key in keys}
        answer = await self.protocol.call_look(peer, had)
        if answer is None:
            self.blacklist.register_failure(peer)
            return None
        self.blacklist.register_success(peer)
        records, named = answer
        return records, {node: near for node, near in named.items() if near not in self.blacklist}

    def _recall(self, key: DHTID) -> None:
        """Make a place for what is heard under `key`, and forget what is old."""
        now = time.time()
        heard = self._heard.pop(key, {})
        self._heard[key] = {writer: entry for writer, entry in heard.items() if entry[1] > now}
        while len(self._heard) > SHARDS and sum(map(len, self._heard.values())) > _MAX_HEARD:
            self._heard.popitem(last=False)

    def _add(self, key: DHTID, held: dict[str, tuple[bytes, float]], found: dict[str, Announcement]) -> None:
        heard = self._heard.setdefault(key, {})
        for writer, (raw, expires) in held.items():
            known = found.get(writer)
            if known is None or known.expires < expires:
                announcement = self.protocol.validator.check(key.to_bytes(), writer, raw, expires)
                if announcement is not None:
                    found[writer] = announcement
                    heard[writer] = (raw, expires)
