"""Blobs between peers.

Promise to the one who fetches: `fetch` returns the blob or raises within its deadline, whatever the providers do;
lies, silence and death of one provider lead to the next, which goes on where a stream broke off. Promise to the one
who serves: requests are 49 bytes,
uploads are limited in number and per remote peer in bytes and requests, and a slow reader is dropped.

Up to 1 MiB a blob is one unary answer, a status byte and the blob. Above, it is a raw stream: 49 bytes one way, a
status byte and the blob the other way, since hivemind's own message streams read any length that the other side
claims.
"""

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from hivemind.p2p import P2P, P2PContext, PeerID, ServicerBase
from hivemind.p2p.p2p_daemon_bindings.datastructures import StreamInfo
from hivemind.p2p.p2p_daemon_bindings.utils import (
    P2PDaemonError,
    P2PHandlerError,
    raise_if_failed,
    read_pbmsg_safe,
    write_pbmsg,
)
from hivemind.proto import p2pd_pb2, runtime_pb2

from swarm.identity.key import public_key_of
from swarm.network.announcements import Refused
from swarm.network.blobs import (
    CHUNK_BYTES,
    REQUEST_BYTES,
    UNARY_MAX_BYTES,
    BlobRef,
    BlobStore,
    BlobUnavailable,
    decode_request,
    encode_request,
)
from swarm.network.limits import GUESTS, Rate, TokenBuckets
from swarm.network.members import Members
from swarm.network.traffic import Traffic

_log = logging.getLogger(__name__)

FIRST_BYTE_TIMEOUT_S = 10.0
CHUNK_TIMEOUT_S = 10.0
_TRIES_PER_PROVIDER = 3
_PROGRESS_BYTES = 8 * 1024
_TOLD_CHARS = 160
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.3, 3.0
_HERE, _MISSING, _BUSY, _MALFORMED = 0, 1, 2, 3
_LONGEST_THROTTLE_S = 5.0
_SLOWEST_BYTES_PER_S = 32 * 1024
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


class _Failed(Exception):
    """One try with one provider went wrong; it costs so many of the tries that the provider has for this blob."""

    def __init__(self, why: str, costs: int = 1) -> None:
        super().__init__(why)
        self.costs = costs


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
                return bytes([_MISSING])
            wait_s = self._bytes.owe(name, len(data))
            if wait_s > _LONGEST_THROTTLE_S:
                return bytes([self._refuse(Refused("too many bytes"))])
            await asyncio.sleep(wait_s)
            self._count_out(len(data), whole=True)
            return bytes([_HERE]) + data
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
            writer.write(bytes([_MISSING]))
            return
        writer.write(bytes([_HERE]))
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
        return _MALFORMED if error.reason == "malformed blob request" else _BUSY

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


class Fetcher:
    """Gets blobs from other peers over whatever p2p is alive at the moment."""

    def __init__(
        self,
        current_p2p: Callable[[], P2P],
        service: type[BlobService],
        store: BlobStore,
        traffic: Traffic,
        refused: "Counter[str]",
    ) -> None:
        self._current_p2p, self._service, self._store = current_p2p, service, store
        self._traffic, self._refused = traffic, refused
        self.fetches = 0
        """How many are under way."""

    async def fetch(self, ref: BlobRef, providers: Sequence[str], deadline: float) -> bytes:
        """The blob, checked and kept. `deadline` is in seconds of time.monotonic().

        Raises:
            BlobUnavailable: no provider served it in time.
        """
        held = await asyncio.to_thread(self._store.get, ref)
        if held is not None:
            return held
        self.fetches += 1
        try:
            return await self._fetch(ref, providers, deadline)
        finally:
            self.fetches -= 1

    async def _fetch(self, ref: BlobRef, providers: Sequence[str], deadline: float) -> bytes:
        part = _Part()
        left = Counter(dict.fromkeys(providers, _TRIES_PER_PROVIDER))
        troubles: dict[str, str] = {}
        pause_s = _FIRST_PAUSE_S
        while left and time.monotonic() < deadline:
            if troubles:
                await asyncio.sleep(min(pause_s * random.uniform(0.7, 1.3), max(0.0, deadline - time.monotonic())))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            turn = list(left)
            for position, provider in enumerate(turn):
                if time.monotonic() >= deadline:
                    break
                # Without this share a single frozen provider would use up all the time that there is.
                patience_s = max(0.5, (deadline - time.monotonic()) / (len(turn) - position))
                had = len(part.data)
                try:
                    data = await self._from(provider, ref, part, _Patience(deadline, patience_s))
                except _Failed as error:
                    troubles[provider] = str(error)
                    left[provider] -= error.costs
                    if len(part.data) > had:
                        pause_s = _FIRST_PAUSE_S
                    if left[provider] <= 0:
                        del left[provider]
                    continue
                await asyncio.to_thread(self._store.put, data)
                self._traffic.blobs_in += 1
                return data
        told = "; ".join(f"{provider[-8:]}: {trouble}" for provider, trouble in list(troubles.items())[:4])
        raise BlobUnavailable(
            f"blob {ref.sha256[:12]} ({ref.size} bytes) did not arrive, {len(troubles)} of {len(providers)} providers "
            f"were tried ({told or 'no time left'}); it may come from another peer later"
        )

    async def fetch_many(
        self, wanted: Mapping[BlobRef, Sequence[str]], deadline: float, at_once: int = 8
    ) -> dict[BlobRef, bytes]:
        """All that arrives before `deadline`, several at once."""
        arrived: dict[BlobRef, bytes] = {}
        gate = asyncio.Semaphore(at_once)

        async def one(ref: BlobRef, providers: Sequence[str]) -> None:
            async with gate:
                if time.monotonic() >= deadline:
                    return
                try:
                    arrived[ref] = await self.fetch(ref, providers, deadline)
                except BlobUnavailable as error:
                    _log.info("%s", error)

        await asyncio.gather(*(one(ref, providers) for ref, providers in wanted.items()))
        return arrived

    async def _from(self, provider: str, ref: BlobRef, part: "_Part", patience: "_Patience") -> bytes:
        try:
            public_key_of(provider)
        except ValueError:
            raise _Failed("not a peer id", costs=_TRIES_PER_PROVIDER) from None
        peer = PeerID.from_base58(provider)
        try:
            if ref.size <= UNARY_MAX_BYTES and not part.streamed:
                part.data = bytearray(await self._unary(peer, ref, patience))
            else:
                await self._streamed(peer, ref, part, patience)
        except TimeoutError:
            raise _Failed("too slow") from None
        except DecodeError:
            raise _Failed("answered nonsense", costs=_TRIES_PER_PROVIDER) from None
        except (P2PDaemonError, P2PHandlerError, OSError, EOFError) as error:
            part.streamed = True
            raise _Failed(f"cannot be reached or broke off ({_told(error)})") from None
        if not ref.matches(part.data):
            self._refused["wrong blob"] += 1
            whole = part.is_of_one
            part.restart()
            # Of several who gave a part nobody knows who lied: from now on each has to give the whole.
            part.resumable = False
            raise _Failed("sent something else", costs=_TRIES_PER_PROVIDER if whole else 1)
        return bytes(part.data)

    async def _unary(self, peer: PeerID, ref: BlobRef, patience: "_Patience") -> bytes:
        request = runtime_pb2.ExpertInfo(serialized_info=encode_request(ref))
        stub = self._service.get_stub(self._current_p2p(), peer)
        answer = await asyncio.wait_for(stub.rpc_small(request), patience.left(FIRST_BYTE_TIMEOUT_S))
        raw = bytes(answer.serialized_info)
        _check_status(raw[:1])
        self._traffic.bytes_in += len(raw) - 1
        return raw[1:]

    async def _streamed(self, peer: PeerID, ref: BlobRef, part: "_Part", patience: "_Patience") -> None:
        """Fill `part`, going on where another stream broke off."""
        if not part.resumable:
            part.restart()
        name = self._service._get_handle_name(None, "stream")
        wait_s = patience.left(FIRST_BYTE_TIMEOUT_S)
        reader, writer = await asyncio.wait_for(_open_stream(self._current_p2p(), peer, name, wait_s), wait_s)
        with closing(writer):
            writer.write(encode_request(ref, len(part.data)))
            _check_status(await asyncio.wait_for(reader.read(1), patience.left(FIRST_BYTE_TIMEOUT_S)))
            started, came = time.monotonic(), 0
            while len(part.data) < ref.size:
                want = min(CHUNK_BYTES, ref.size - len(part.data))
                chunk = await asyncio.wait_for(reader.read(want), patience.left(CHUNK_TIMEOUT_S))
                if not chunk:
                    went_on = part.resumable and came >= _PROGRESS_BYTES
                    raise _Failed(f"broke off after {came} bytes", costs=0 if went_on else 1)
                if not came:
                    part.givers += 1
                came += len(chunk)
                part.data += chunk
                self._traffic.bytes_in += len(chunk)
                spent_s = time.monotonic() - started
                if spent_s > CHUNK_TIMEOUT_S and came < spent_s * _SLOWEST_BYTES_PER_S:
                    raise _Failed("trickles")


@dataclass
class _Part:
    """What has come of a blob so far."""

    data: bytearray = field(default_factory=bytearray)
    givers: int = 0
    """Streams that gave some of it."""
    resumable: bool = True
    streamed: bool = False
    """Also when it is small: its unary answer broke off, as over a relay that resets every connection after 128 KiB."""

    @property
    def is_of_one(self) -> bool:
        return self.givers <= 1

    def restart(self) -> None:
        self.data, self.givers = bytearray(), 0


@dataclass(frozen=True)
class _Patience:
    """How long to wait for one sign of life of one provider."""

    deadline: float
    silence_s: float

    def left(self, at_most: float) -> float:
        return max(0.0, min(at_most, self.silence_s, self.deadline - time.monotonic()))


async def _open_stream(
    p2p: P2P, peer: PeerID, name: str, timeout_s: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As hivemind's `stream_open`, but the socket to p2pd is closed when the other side does not answer."""
    reader, writer = await p2p._client.control.daemon_connector.open_connection()
    try:
        opening = p2pd_pb2.StreamOpenRequest(peer=peer.to_bytes(), proto=[name], timeout=math.ceil(timeout_s))
        await write_pbmsg(writer, p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_OPEN, streamOpen=opening))
        response = p2pd_pb2.Response()
        await read_pbmsg_safe(reader, response)
        raise_if_failed(response)
    except BaseException:
        writer.close()
        raise
    return reader, writer


def _told(error: Exception) -> str:
    """What the daemon or the other side said, bounded and in printable characters."""
    return f"{type(error).__name__}: {str(error)[:_TOLD_CHARS]!a}"


def _check_status(status: bytes) -> None:
    if status == bytes([_HERE]):
        return
    if status == bytes([_MISSING]):
        raise _Failed("does not have it")
    if status == bytes([_BUSY]):
        raise _Failed("is busy", costs=0)
    raise _Failed(
        "closed the stream" if not status else "answered nonsense", costs=_TRIES_PER_PROVIDER if status else 1
    )
