"""The calls between DHT nodes: what this one answers, asks and keeps.

Promise: what is stored here and what is taken from others has passed `check_record`, entry by entry, so a bad entry
is dropped alone and hides no good one. Swarms do not hear each other: the names of the calls contain the swarm.

Differences from hivemind's own protocol, each because of something measured or read in 1.1.12: a reader there throws
away a whole dictionary for one bad entry; a handed-over dictionary stops at the first entry that is already known; a
message above 4 MiB blacklists a healthy peer.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import P2PContext, PeerID
from hivemind.proto import dht_pb2
from hivemind.utils.timed_storage import ValueWithExpiration

from swarm.network.announcements import KEY_BYTES, Refused
from swarm.network.limits import GUESTS, Rate, TokenBuckets
from swarm.network.members import Members
from swarm.network.traffic import Traffic
from swarm.network.validation import (
    SALT_BYTES,
    AnnouncementValidator,
    Entry,
    decode_dictionary,
    decode_subkey,
    encode_tags,
    without,
)

_log = logging.getLogger(__name__)

BUCKET_SIZE = 20
MAX_RECORDS_PER_WRITER = 512
MAX_RECORDS_PER_KEY = 1500
MAX_KEYS_PER_CALL = 64
LOOK_NEIGHBOURS = 8
_MAX_REPLY_BYTES = 3 * 1024**2
_MAX_STORE_BYTES = 1024**2
_MAX_BAD_PER_REPLY = 32
_CHECK_BUCKET_S = 10.0
_PRICE_OF_A_BAD_RECORD = 20.0  # requests
_CALLS_PER_S = Rate(per_second=300, burst=3000)  # a record to store counts as one more


def node_id_of(peer_id: PeerID) -> DHTID:
    """The place in the DHT that belongs to a peer."""
    return DHTID.generate(source=b"swarm node 1" + peer_id.to_bytes())


class SwarmProtocol(DHTProtocol):
    """The calls between nodes, as one class per network: see `bound_to`."""

    _rpc_handlers = None  # collected for this class, not shared with hivemind's
    _stub_type = None
    validator: AnnouncementValidator
    members: Members
    traffic: Traffic
    namespace: str

    @classmethod
    def bound_to(
        cls, validator: AnnouncementValidator, members: Members, traffic: Traffic, swarm_id: str
    ) -> "type[SwarmProtocol]":
        """A class for one swarm and one network, since hivemind creates the protocol by its class."""
        namespace = "swarm1-" + hashlib.sha256(swarm_id.encode()).hexdigest()[:24]
        attributes = {"validator": validator, "members": members, "traffic": traffic, "namespace": namespace}
        return type("SwarmProtocol", (cls,), {**attributes, "_rpc_handlers": None, "_stub_type": None})

    def __init__(self, *, _initialized_with_create: bool = False) -> None:
        super().__init__(_initialized_with_create=_initialized_with_create)
        self._allowance = TokenBuckets(_CALLS_PER_S)
        self._writers: dict[str, dict[bytes, float]] = {}
        self._next_check: dict[int, float] = {}
        self.heard_from: Callable[[PeerID], None] | None = None

    @classmethod
    def _get_handle_name(cls, namespace: str | None, method_name: str) -> str:
        return f"{cls.namespace}.{method_name}"

    async def rpc_ping(self, request: dht_pb2.PingRequest, context: P2PContext) -> dht_pb2.PingResponse:
        self._admit(context)
        return await super().rpc_ping(request, context)

    async def rpc_store(self, request: dht_pb2.StoreRequest, context: P2PContext) -> dht_pb2.StoreResponse:
        name = self._admit(context)
        self.traffic.dht_in += request.ByteSize()
        if not len(request.keys) == len(request.subkeys) == len(request.values) == len(request.expiration_time):
            self.validator.refused["malformed request"] += 1
            raise Refused("malformed request")
        self._meet(request.peer, context)
        response = dht_pb2.StoreResponse(store_ok=[], peer=self.node_info)
        for key, tag, value, expires in zip(
            request.keys, request.subkeys, request.values, request.expiration_time, strict=True
        ):
            try:
                entries = (
                    decode_dictionary(value) if tag == self.IS_DICTIONARY else [(decode_subkey(tag), value, expires)]
                )
            except Refused as error:
                self.validator.refused[error.reason] += 1
                response.store_ok.append(False)
                continue
            response.store_ok.append(all([self._keep_for(name, key, entry) for entry in entries]))
            await asyncio.sleep(0)  # others get their turn between rows
        return response

    async def rpc_find(self, request: dht_pb2.FindRequest, context: P2PContext) -> dht_pb2.FindResponse:
        """The nodes nearest to some keys. What lies under the keys is for `rpc_look`."""
        self.traffic.dht_in += request.ByteSize()
        self._admit(context)
        self._check_keys(request.keys)
        self._meet(request.peer, context)
        response = dht_pb2.FindResponse(results=[], peer=self.node_info)
        for key in request.keys:
            result = dht_pb2.FindResult(type=dht_pb2.NOT_FOUND)
            self._name_neighbours(result, key, self.bucket_size, request.peer, set())
            response.results.append(result)
        self.traffic.dht_out += response.ByteSize()
        return response

    async def rpc_look(self, request: dht_pb2.StoreRequest, context: P2PContext) -> dht_pb2.FindResponse:
        """What lies under some keys and the caller does not have: `values` tells what it has, see `encode_tags`.

        A neighbour of several keys is named once; a node that knows few others names them all at the first key.
        """
        self.traffic.dht_in += request.ByteSize()
        self._admit(context)
        self._check_keys(request.keys)
        most = SALT_BYTES + 4 * MAX_RECORDS_PER_KEY
        if len(request.values) != len(request.keys) or any(
            not SALT_BYTES <= len(tags) <= most for tags in request.values
        ):
            self.validator.refused["malformed request"] += 1
            raise Refused("malformed request")
        self._meet(request.peer, context)
        response = dht_pb2.FindResponse(results=[], peer=self.node_info)
        few = len(self.routing_table.peer_id_to_uid) <= self.bucket_size
        named: set[PeerID] = set()
        budget = _MAX_REPLY_BYTES
        for key, tags in zip(request.keys, request.values, strict=True):
            result = dht_pb2.FindResult(type=dht_pb2.NOT_FOUND)
            packed, expires = self._news(key, tags)
            if packed and len(packed) <= budget:
                budget -= len(packed)
                result = dht_pb2.FindResult(type=dht_pb2.FOUND_DICTIONARY, value=packed, expiration_time=expires)
            if not (few and named):
                count = self.bucket_size if few else LOOK_NEIGHBOURS
                self._name_neighbours(result, key, count, request.peer, named)
            response.results.append(result)
        self.traffic.dht_out += response.ByteSize()
        return response

    def _check_keys(self, keys: Sequence[bytes]) -> None:
        if len(keys) > MAX_KEYS_PER_CALL or any(len(key) != KEY_BYTES for key in keys):
            self.validator.refused["malformed request"] += 1
            raise Refused("malformed request")

    def _news(self, key: bytes, tags: bytes) -> tuple[bytes, float]:
        """What the caller lacks of a key, packed, and when the last of it expires."""
        held = self.storage.get(DHTID.from_bytes(key))
        if held is None or not isinstance(held.value, DictionaryDHTValue):
            return b"", 0.0
        news = DictionaryDHTValue()
        records = {writer: (entry.value, entry.expiration_time) for writer, entry in held.value.items()}
        for writer, (raw, expires) in without(records, tags).items():
            news.store(writer, raw, expires)
        return (self.serializer.dumps(news), news.latest_expiration_time) if news else (b"", 0.0)

    def _name_neighbours(
        self, result: dht_pb2.FindResult, key: bytes, count: int, asker: dht_pb2.NodeInfo, named: set[PeerID]
    ) -> None:
        """Add the `count` known nodes nearest to a key, without those in `named`, which they join."""
        nearest = self.routing_table.get_nearest_neighbors(
            DHTID.from_bytes(key), k=count, exclude=_node_id(asker.node_id)
        )
        for node_id, peer_id in nearest:
            if peer_id not in named:
                named.add(peer_id)
                result.nearest_node_ids.append(node_id.to_bytes())
                result.nearest_peer_ids.append(peer_id.to_bytes())

    async def call_find(
        self, peer: PeerID, keys: Collection[DHTID]
    ) -> dict[DHTID, tuple[Any, dict[DHTID, PeerID]]] | None:
        """As hivemind's, but for nodes only, and neighbours with a borrowed place are left out."""
        request = dht_pb2.FindRequest(keys=[key.to_bytes() for key in keys], peer=self.node_info)
        self.traffic.dht_out += request.ByteSize()
        return await self._ask(peer, list(keys), lambda stub: stub.rpc_find(request, timeout=self.wait_timeout))

    async def call_look(
        self, peer: PeerID, keys: Mapping[DHTID, Collection[bytes]]
    ) -> tuple[dict[DHTID, Any], dict[DHTID, PeerID]] | None:
        """What a node holds under some keys beyond the records given with each, every entry checked alone.

        And the neighbours that it names, each of them for whatever key it may be near.
        """
        salt = os.urandom(SALT_BYTES)
        request = dht_pb2.StoreRequest(
            keys=[key.to_bytes() for key in keys],
            values=[encode_tags(salt, list(had)[:MAX_RECORDS_PER_KEY]) for had in keys.values()],
            peer=self.node_info,
        )
        self.traffic.dht_out += request.ByteSize()
        found = await self._ask(peer, list(keys), lambda stub: stub.rpc_look(request, timeout=self.wait_timeout))
        if found is None:
            return None
        named = {node: near for _, nearest in found.values() for node, near in nearest.items()}
        return {key: held for key, (held, _) in found.items()}, named

    async def _ask(
        self, peer: PeerID, keys: Sequence[DHTID], call: Callable[[Any], Awaitable[dht_pb2.FindResponse]]
    ) -> dict[DHTID, tuple[Any, dict[DHTID, PeerID]]] | None:
        try:
            response = await call(self.get_stub(peer))
            self.traffic.dht_in += response.ByteSize()
            if len(response.results) != len(keys):
                raise Refused("malformed reply")
            found = {key: self._read_result(key, result) for key, result in zip(keys, response.results, strict=True)}
        except Exception as error:  # noqa: BLE001 - whatever a remote peer causes counts as "did not answer"
            _log.debug("%s did not answer: %r", peer, error)
            await self.update_routing_table(self.routing_table.get(peer_id=peer), peer, responded=False)
            return None
        await self.update_routing_table(node_id_of(peer) if response.peer.node_id else None, peer, responded=True)
        return found

    async def call_store(
        self,
        peer: PeerID,
        keys: Sequence[DHTID],
        values: Sequence[Any],
        expiration_time: Any,
        subkeys: Any = None,
        in_cache: Any = None,
    ) -> list[bool] | None:
        """As hivemind's, for records and whole dictionaries, in messages of at most about 1 MiB."""
        expiries = [expiration_time] * len(keys) if isinstance(expiration_time, float) else list(expiration_time)
        names = list(subkeys) if subkeys is not None else [None] * len(keys)
        rows: list[tuple[int, DHTID, bytes, Any, float]] = []
        for index, (key, value, name, expires) in enumerate(zip(keys, values, names, expiries, strict=True)):
            if isinstance(value, DictionaryDHTValue):
                rows += [(index, key, entry, subkey, until) for subkey, (entry, until) in value.items()]
            else:
                rows.append((index, key, value, name, expires))
        stored = [True] * len(keys)
        while rows:
            size, count = 0, 0
            while count < len(rows) and size < _MAX_STORE_BYTES:
                size += len(rows[count][2]) + 128
                count += 1
            batch, rows = rows[:count], rows[count:]
            self.traffic.dht_out += size
            answer = await super().call_store(
                peer,
                [row[1] for row in batch],
                [row[2] for row in batch],
                [row[4] for row in batch],
                [row[3] for row in batch],
            )
            if answer is None or len(answer) != len(batch):
                return None
            for row, accepted in zip(batch, answer, strict=True):
                stored[row[0]] = stored[row[0]] and accepted
        return stored

    async def update_routing_table(self, node_id: DHTID | None, peer_id: PeerID, responded: bool = True) -> None:
        if node_id is None and responded:
            return
        if node_id is not None and node_id != node_id_of(peer_id):
            self.validator.refused["borrowed node id"] += 1
            return
        if responded and self.heard_from is not None:
            self.heard_from(peer_id)  # a peer that was frozen or away is welcome again at once
        if peer_id != self.p2p.peer_id and not (responded and self._is_spare(node_id)):
            await super().update_routing_table(node_id, peer_id, responded)

    def _is_spare(self, node_id: DHTID | None) -> bool:
        """Whether a node waits for a place in a bucket of the routing table that was looked through just now.

        hivemind pings a member of a full bucket whenever it hears from a node that waits for a place there, and that
        ping causes the next one elsewhere: among 1000 peers as many pings as other calls.
        """
        bucket = self.routing_table.buckets[self.routing_table.get_bucket_index(node_id)] if node_id else None
        if bucket is None or node_id not in bucket.replacement_nodes:
            return False
        now = time.monotonic()
        if now < self._next_check.get(bucket.lower, 0.0):
            return True
        self._next_check[bucket.lower] = now + _CHECK_BUCKET_S
        return False

    def keep(self, key: bytes, subkey: object, raw: bytes, expires: float) -> bool:
        """Store one record here if it is good, from a member as far as known, and within the limits."""
        announcement = self.validator.check(key, subkey, raw, expires)
        if announcement is None:
            return False
        writer = announcement.peer_id
        member = self.members.known(writer)
        if member is False:
            self.validator.refused["not a member"] += 1
            return False
        key_id = DHTID.from_bytes(key)
        held = self.storage.get(key_id)
        entries = held.value if held is not None else None
        if entries is not None and (same := entries.get(writer)) is not None and same.value == raw:
            return True
        if entries is not None and len(entries) >= MAX_RECORDS_PER_KEY and writer not in entries:
            self.validator.refused["too many records"] += 1
            return False
        written = self._writers.setdefault(writer, {})
        if len(written) >= MAX_RECORDS_PER_WRITER and key not in written:
            now = time.time()
            for old in [old for old, until in written.items() if until <= now]:
                del written[old]
            if len(written) >= MAX_RECORDS_PER_WRITER:
                self.validator.refused["too many records"] += 1
                return False
        if member is None and not self._check_later(writer):
            self.validator.refused["too many strangers"] += 1
            return False
        written[key] = expires
        return bool(self.storage.store_subkey(key_id, writer, raw, expires))

    def forget(self, writer: str) -> None:
        """Drop what `writer` stored here."""
        for key in self._writers.pop(writer, {}):
            held = self.storage.get(DHTID.from_bytes(key))
            if held is not None:
                del held.value[writer]

    def forget_expired(self) -> None:
        """Free what is only bookkeeping about records that are gone. Call it now and then."""
        now = time.time()
        for writer in list(self._writers):
            live = {key: until for key, until in self._writers[writer].items() if until > now}
            if live:
                self._writers[writer] = live
            else:
                del self._writers[writer]
        self.storage.get(DHTID(0))  # hivemind drops expired keys on access

    def _check_later(self, writer: str) -> bool:
        question = self.members.ask(writer)
        if question is None:
            return False
        question.add_done_callback(lambda _: self.forget(writer) if self.members.known(writer) is False else None)
        return True

    def _keep_for(self, name: str, key: bytes, entry: Entry) -> bool:
        if not self._allowance.take(name, 1):
            self.validator.refused["too many requests"] += 1
            return False
        bad = self.validator.bad
        kept = self.keep(key, *entry)
        if self.validator.bad > bad:
            self._allowance.owe(name, _PRICE_OF_A_BAD_RECORD)
        return kept

    def _admit(self, context: P2PContext) -> str:
        """The name under which the caller is counted. Raises Refused if it has called too often."""
        name = context.remote_id.to_base58()
        member = self.members.known(name)
        if member is None:
            self.members.ask(name)
        if not member:
            name = GUESTS
        if not self._allowance.take(name, 1):
            self.validator.refused["too many requests"] += 1
            raise Refused("too many requests")
        return name

    def _meet(self, peer: dht_pb2.NodeInfo, context: P2PContext) -> None:
        node_id = _node_id(peer.node_id)
        if node_id is not None:
            asyncio.get_running_loop().create_task(self.update_routing_table(node_id, context.remote_id))

    def _read_result(self, key: DHTID, result: dht_pb2.FindResult) -> tuple[Any, dict[DHTID, PeerID]]:
        nearest: dict[DHTID, PeerID] = {}
        for raw_node, raw_peer in zip(
            result.nearest_node_ids[:BUCKET_SIZE], result.nearest_peer_ids[:BUCKET_SIZE], strict=False
        ):
            peer_id, node_id = _place(raw_peer)
            if raw_node == node_id.to_bytes():
                nearest[node_id] = peer_id
        if result.type == dht_pb2.NOT_FOUND:
            return None, nearest
        good = DictionaryDHTValue()
        try:
            if result.type != dht_pb2.FOUND_DICTIONARY:
                raise Refused("plain value")
            bad = self.validator.bad
            for subkey, raw, expires in decode_dictionary(result.value)[:MAX_RECORDS_PER_KEY]:
                if self.validator.bad - bad > _MAX_BAD_PER_REPLY:
                    break  # a node that serves these checks nothing; the good records are at other nodes too
                if self.validator.check(key.to_bytes(), subkey, raw, expires) is not None:
                    good.store(subkey, raw, expires)
        except Refused as error:
            self.validator.refused[error.reason] += 1
        return (ValueWithExpiration(good, good.latest_expiration_time) if good else None), nearest


@lru_cache(maxsize=4096)
def _place(raw_peer: bytes) -> tuple[PeerID, DHTID]:
    """A peer and its place; remembered, since a PeerID spells itself in base58 when it is made."""
    peer_id = PeerID(raw_peer)
    return peer_id, node_id_of(peer_id)


def _node_id(raw: bytes) -> DHTID | None:
    return DHTID.from_bytes(raw) if len(raw) == KEY_BYTES else None
