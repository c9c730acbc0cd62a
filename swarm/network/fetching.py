"""Blobs that this peer gets from others; `serving` says how they travel.

Promise: `fetch` returns the blob or raises within its deadline, whatever the providers do; lies, silence and death of
one provider lead to the next, which goes on where a stream broke off.
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
from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import (
    P2PDaemonError,
    P2PHandlerError,
    raise_if_failed,
    read_pbmsg_safe,
    write_pbmsg,
)
from hivemind.proto import p2pd_pb2, runtime_pb2

from swarm.identity.key import public_key_of
from swarm.network.blobs import CHUNK_BYTES, UNARY_MAX_BYTES, BlobRef, BlobStore, BlobUnavailable, encode_request
from swarm.network.serving import BUSY, CHUNK_TIMEOUT_S, FIRST_BYTE_TIMEOUT_S, HERE, MISSING, BlobService
from swarm.network.traffic import Traffic

_log = logging.getLogger(__name__)

_TRIES_PER_PROVIDER = 3
_PROGRESS_BYTES = 8 * 1024
_TOLD_CHARS = 160
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.3, 3.0
_SLOWEST_BYTES_PER_S = 32 * 1024


class _Failed(Exception):
    """One try with one provider went wrong; it costs so many of the tries that the provider has for this blob."""

    def __init__(self, why: str, costs: int = 1) -> None:
        super().__init__(why)
        self.costs = costs


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
    if status == bytes([HERE]):
        return
    if status == bytes([MISSING]):
        raise _Failed("does not have it")
    if status == bytes([BUSY]):
        raise _Failed("is busy", costs=0)
    raise _Failed(
        "closed the stream" if not status else "answered nonsense", costs=_TRIES_PER_PROVIDER if status else 1
    )
