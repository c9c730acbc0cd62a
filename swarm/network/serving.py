"""Blobs that this peer gives to others.

Promise: requests are 49 bytes, uploads are limited in number and per remote peer in bytes and requests, and a slow
reader is dropped.

Up to 1 MiB a blob is one unary answer, a status byte and the blob. Above, it is a raw stream: 49 bytes one way, a
status byte and the blob the other way, since hivemind's own message streams read any length that the other side
claims.
"""

import asyncio
import logging
from collections import Counter
from contextlib import closing
from dataclasses import dataclass

from hivemind.p2p import P2P, P2PContext, PeerID, ServicerBase
from hivemind.p2p.p2p_daemon_bindings.datastructures import StreamInfo
from hivemind.proto import runtime_pb2

from swarm.network.announcements import Refused
from swarm.network.blobs import (
    CHUNK_BYTES,
    REQUEST_BYTES,
    UNARY_MAX_BYTES,
    BlobRef,
    BlobStore,
    decode_request,
)
from swarm.network.limits import GUESTS, Rate, TokenBuckets
from swarm.network.members import Members
from swarm.network.traffic import Traffic

_log = logging.getLogger(__name__)

FIRST_BYTE_TIMEOUT_S = 10.0
CHUNK_TIMEOUT_S = 10.0
HERE, MISSING, BUSY, MALFORMED = 0, 1, 2, 3
"""The status byte with which an answer begins."""
_LONGEST_THROTTLE_S = 5.0
_BYTES_PER_S = Rate(per_second=32 * 1024**2, burst=192 * 1024**2)
_REQUESTS_PER_S = Rate(per_second=50, burst=200)


@dataclass(frozen=True)
class UploadLimits:
    """What one peer gives away. `uploads` at the same time in all, `uploads_per_peer` of them to one remote peer."""

    uploads: int = 16
    uploads_per_peer: int = 4
    memory_bytes: int = 256 * 1024**2
    """Of all blobs that are being uploaded."""
    bytes_per_s: Rate = _BYTES_PER_S
    requests_per_s: Rate = _REQUESTS_PER_S


class BlobService(ServicerBase):
    """Serves the blobs of a store to other peers."""

    _rpc_handlers = None
    _stub_type = None
    namespace = ""

    @classmethod
    def bound_to(cls, namespace: str) -> "type[BlobService]":
        """A class whose calls carry the swarm's name."""
        return type("BlobService", (cls,), {"namespace": namespace, "_rpc_handlers": None, "_stub_type": None})

    def __init__(
        self, store: BlobStore, members: Members, traffic: Traffic, refused: "Counter[str]", limits: UploadLimits
    ) -> None:
        self._store, self._members, self._traffic, self._refused, self._limits = (
            store,
            members,
            traffic,
            refused,
            limits,
        )
        self._requests = TokenBuckets(limits.requests_per_s)
        self._bytes = TokenBuckets(limits.bytes_per_s)
        self._uploads: Counter[str] = Counter()
        self._memory = 0

    @classmethod
    def _get_handle_name(cls, namespace: str | None, method_name: str) -> str:
        return f"{cls.namespace}.blob.{method_name}"

    async def serve_on(self, p2p: P2P) -> None:
        """Begin to answer requests that arrive at `p2p`."""
        await self.add_p2p_handlers(p2p)
        await p2p.add_binary_stream_handler(self._get_handle_name(None, "stream"), self._stream)

    async def rpc_small(self, request: runtime_pb2.ExpertInfo, context: P2PContext) -> runtime_pb2.ExpertInfo:
        """Answer with a status byte, followed by the blob if it is here and of at most 1 MiB."""
        return runtime_pb2.ExpertInfo(
            serialized_info=await self._answer(request.serialized_info, self._name(context.remote_id))
        )

    async def _answer(self, raw: bytes, name: str) -> bytes:
        try:
            ref, start = self._accept(raw, name)
            if start or ref.size > UNARY_MAX_BYTES:
                raise Refused("malformed blob request")
        except Refused as error:
            return bytes([self._refuse(error)])
        self._begin(name, ref)
        try:
            data = await asyncio.to_thread(self._store.get, ref)
            if data is None:
                return bytes([MISSING])
            wait_s = self._bytes.owe(name, len(data))
            if wait_s > _LONGEST_THROTTLE_S:
                return bytes([self._refuse(Refused("too many bytes"))])
            await asyncio.sleep(wait_s)
            self._count_out(len(data), whole=True)
            return bytes([HERE]) + data
        finally:
            self._end(name, ref)

    async def _stream(self, info: StreamInfo, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = self._name(info.peer_id)
        with closing(writer):
            try:
                raw = await asyncio.wait_for(reader.readexactly(REQUEST_BYTES), FIRST_BYTE_TIMEOUT_S)
                ref, start = self._accept(raw, name)
            except Refused as error:
                writer.write(bytes([self._refuse(error)]))
                return
            except (TimeoutError, asyncio.IncompleteReadError, OSError):
                self._refused["malformed blob request"] += 1
                return
            self._begin(name, ref)
            try:
                await self._upload(ref, start, name, writer)
            except (TimeoutError, OSError) as error:
                _log.debug("upload to %s stopped: %r", info.peer_id, error)
            finally:
                self._end(name, ref)

    async def _upload(self, ref: BlobRef, first: int, name: str, writer: asyncio.StreamWriter) -> None:
        data = await asyncio.to_thread(self._store.get, ref)
        if data is None:
            writer.write(bytes([MISSING]))
            return
        writer.write(bytes([HERE]))
        for start in range(first, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            wait_s = self._bytes.owe(name, len(chunk))
            if wait_s > _LONGEST_THROTTLE_S:
                self._refuse(Refused("too many bytes"))
                return
            if wait_s:
                await asyncio.sleep(wait_s)
            writer.write(chunk)
            await asyncio.wait_for(writer.drain(), CHUNK_TIMEOUT_S)
            self._count_out(len(chunk))
        self._traffic.blobs_out += 1

    def _accept(self, raw: bytes, name: str) -> tuple[BlobRef, int]:
        if not self._requests.take(name, 1):
            raise Refused("too many blob requests")
        ref, start = decode_request(raw)
        limits = self._limits
        if self._uploads.total() >= limits.uploads or self._uploads[name] >= limits.uploads_per_peer:
            raise Refused("too many uploads")
        if self._memory and self._memory + ref.size > limits.memory_bytes:
            raise Refused("too many uploads")
        return ref, start

    def _refuse(self, error: Refused) -> int:
        self._refused[error.reason] += 1
        return MALFORMED if error.reason == "malformed blob request" else BUSY

    def uploads(self) -> int:
        """How many are under way."""
        return self._uploads.total()

    def _begin(self, name: str, ref: BlobRef) -> None:
        self._uploads[name] += 1
        self._memory += ref.size

    def _end(self, name: str, ref: BlobRef) -> None:
        self._memory -= ref.size
        self._uploads[name] -= 1
        if self._uploads[name] <= 0:
            del self._uploads[name]

    def _name(self, remote: PeerID) -> str:
        peer_id = str(remote.to_base58())
        member = self._members.known(peer_id)
        if member is None:
            self._members.ask(peer_id)
        return peer_id if member else GUESTS

    def _count_out(self, size: int, whole: bool = False) -> None:
        self._traffic.bytes_out += size
        self._traffic.blobs_out += whole
