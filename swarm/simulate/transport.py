"""libp2p in memory: hivemind's `P2P` with a medium in this process where p2pd and the Internet would be.

Promise: handlers, stubs, unary calls and streams are hivemind's own code, so DHT nodes and services run on it
unchanged; what a message takes follows from the lines of its two ends (latency, bandwidth, loss, stalls), and every
byte is counted. Limits are those of p2pd: a message above 4 MiB is not sent, an answer above it never arrives, and a
call to a peer that is gone fails. Used from one event loop.
"""

import asyncio
import math
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.control import DEFAULT_MAX_MSG_SIZE, TUnaryHandler
from hivemind.p2p.p2p_daemon_bindings.datastructures import PeerInfo, StreamInfo
from hivemind.p2p.p2p_daemon_bindings.p2pclient import StreamHandler
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, P2PHandlerError, read_pbmsg_safe, write_pbmsg
from hivemind.proto import p2pd_pb2
from hivemind.utils.multiaddr import Multiaddr

_RESEND_S = 0.2
_RESENDS = 6
_SEGMENT_BYTES = 64 * 1024
_MAX_CONNECTED = 256


@dataclass(frozen=True)
class Line:
    """What connects one peer with all others. A message passes two lines, the sender's and the receiver's."""

    latency_s: float = 0.0
    bytes_per_s: float = math.inf
    """Each way."""
    loss: float = 0.0
    """The share of messages that are lost and sent again after 0.2 s, 0.4 s, ...; the seventh loss breaks the link."""


class Medium:
    """Who is there, over what lines, and how many bytes each has sent and received."""

    def __init__(self, line: Line | None = None, seed: int = 0) -> None:
        """`line`: of every peer that has none of its own in `lines`."""
        self._default = line or Line()
        self._chance = random.Random(seed)
        self._clients: dict[PeerID, _Client] = {}
        self._stalled: dict[PeerID, asyncio.Event] = {}
        self._busy_up: dict[PeerID, float] = {}
        self._busy_down: dict[PeerID, float] = {}
        self.lines: dict[PeerID, Line] = {}
        self.bytes_out: Counter[PeerID] = Counter()
        self.bytes_in: Counter[PeerID] = Counter()

    def stall(self, peer: PeerID) -> None:
        """Nothing reaches or leaves `peer` until `resume`; nobody is told."""
        self._stalled.setdefault(peer, asyncio.Event())

    def resume(self, peer: PeerID) -> None:
        """End a stall; what waited goes on."""
        self._stalled.pop(peer).set()

    def join(self, client: "_Client") -> None:
        if client.peer_id in self._clients:
            raise P2PDaemonError(f"{client.peer_id} is there already")
        self._clients[client.peer_id] = client

    def leave(self, peer: PeerID) -> None:
        self._clients.pop(peer, None)

    def reach(self, caller: "_Client", peer: PeerID) -> "_Client":
        """The other end of a call. Raises P2PDaemonError if nobody is there."""
        if caller.peer_id not in self._clients:
            raise P2PDaemonError("this peer has left")
        try:
            other = self._clients[peer]
        except KeyError:
            raise P2PDaemonError(f"failed to dial {peer}") from None
        caller.meet(other)
        other.meet(caller)
        return other

    async def passable(self, *peers: PeerID) -> None:
        """Wait until none of `peers` is stalled."""
        while waiting := [self._stalled[peer] for peer in peers if peer in self._stalled]:
            await waiting[0].wait()

    def plan(self, sender: PeerID, receiver: PeerID, size: int) -> tuple[float, float]:
        """When a message that starts now has left the sender and has arrived, in the loop's time.

        Raises:
            ConnectionResetError: it was lost too often.
        """
        now = asyncio.get_running_loop().time()
        up, down = self.lines.get(sender, self._default), self.lines.get(receiver, self._default)
        tries = 0
        while self._chance.random() < 1 - (1 - up.loss) * (1 - down.loss):
            tries += 1
            if tries > _RESENDS:
                raise ConnectionResetError("lost too often")
        size_sent = size * (tries + 1)
        self.bytes_out[sender] += size_sent
        self.bytes_in[receiver] += size
        left = max(now, self._busy_up.get(sender, 0.0)) + size_sent / up.bytes_per_s
        taken_in = max(left, self._busy_down.get(receiver, 0.0) + size / down.bytes_per_s)
        self._busy_up[sender], self._busy_down[receiver] = left, taken_in
        return left, taken_in + up.latency_s + down.latency_s + _RESEND_S * (2**tries - 1)

    async def carry(self, sender: PeerID, receiver: PeerID, size: int) -> None:
        """Return when a message has arrived. Raises ConnectionResetError if it was lost too often."""
        await self.passable(sender, receiver)
        _, arrives = self.plan(sender, receiver, size)
        wait_s = arrives - asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, wait_s))
        await self.passable(sender, receiver)


class MemoryP2P(P2P):
    """hivemind's P2P over a `Medium`."""

    _client: "_Client"
    _client_listen_maddr = _daemon_listen_maddr = Multiaddr("/unix/none")

    @classmethod
    async def join(cls, medium: Medium, peer_id: PeerID) -> "MemoryP2P":
        """Appear in the medium. Raises P2PDaemonError if this peer is there already."""
        self = cls()
        self._client = _Client(medium, peer_id)
        medium.join(self._client)
        self._ended = asyncio.Event()
        self._alive = True
        await self._ping_daemon()
        return self

    def __del__(self) -> None:
        """Nothing to end: hivemind's own would end p2pd."""

    async def wait(self) -> None:
        """Return when this peer has left."""
        await self._ended.wait()

    async def shutdown(self) -> None:
        """Leave the medium: calls in flight fail, and so do later ones."""
        self._terminate()
        self._ended.set()


class _Client:
    """What hivemind's P2P asks of its daemon's client."""

    def __init__(self, medium: Medium, peer_id: PeerID) -> None:
        self.peer_id = peer_id
        self.unary: dict[str, TUnaryHandler] = {}
        self.streams: dict[str, StreamHandler] = {}
        self.control = SimpleNamespace(daemon_connector=self, close=lambda: None)
        self._medium = medium
        number = int.from_bytes(peer_id.to_bytes()[-3:], "big")
        self.info = PeerInfo(peer_id, [Multiaddr(f"/ip4/127.{number >> 16}.{number >> 8 & 255}.{number & 255}/tcp/1")])
        self._met: dict[PeerID, PeerInfo] = {}
        self._open: set[_End] = set()
        self._handling: set[asyncio.Task[None]] = set()

    def meet(self, other: "_Client") -> None:
        self._met[other.peer_id] = other.info
        if len(self._met) > _MAX_CONNECTED:
            del self._met[next(iter(self._met))]

    def close(self) -> None:
        self._medium.leave(self.peer_id)
        for end in list(self._open):
            end.reset()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator["_Client"]:
        yield self

    async def identify(self) -> tuple[PeerID, tuple[Multiaddr, ...]]:
        return self.peer_id, tuple(self.info.addrs)

    async def connect(self, peer_id: PeerID, maddrs: Iterable[Multiaddr]) -> None:
        await self._medium.carry(self.peer_id, self._medium.reach(self, peer_id).peer_id, 1)

    async def disconnect(self, peer_id: PeerID) -> None:
        self._met.pop(peer_id, None)

    async def list_peers(self) -> tuple[PeerInfo, ...]:
        return tuple(self._met.values())

    async def add_unary_handler(self, proto: str, handler: TUnaryHandler, balanced: bool = False) -> None:
        if proto in self.unary:
            raise P2PDaemonError(f"Handler for protocol {proto} already registered")
        self.unary[proto] = handler

    async def remove_unary_handler(self, proto: str) -> None:
        del self.unary[proto]

    async def stream_handler(self, proto: str, handler: StreamHandler, balanced: bool = False) -> None:
        self.streams[proto] = handler

    async def remove_stream_handler(self, proto: str) -> None:
        del self.streams[proto]

    async def call_unary_handler(self, peer_id: PeerID, proto: str, data: bytes) -> bytes:
        if len(data) > DEFAULT_MAX_MSG_SIZE:
            raise P2PDaemonError(f"Message size exceeds set limit {DEFAULT_MAX_MSG_SIZE}")
        other = self._medium.reach(self, peer_id)
        try:
            await self._medium.carry(self.peer_id, peer_id, len(data))
            if proto not in other.unary:
                raise P2PDaemonError(f"protocol {proto} is not supported")
            try:
                answer = await other.unary[proto](data, self.peer_id)
            except Exception as error:  # noqa: BLE001 - as p2pd tells a remote caller of any failure
                raise P2PHandlerError(repr(error)) from None
            if len(answer) > DEFAULT_MAX_MSG_SIZE:
                await asyncio.Event().wait()  # hivemind 1.1.12 fails to report this, and the caller hears nothing
            await self._medium.carry(peer_id, self.peer_id, len(answer))
        except ConnectionResetError as error:
            raise P2PDaemonError(str(error)) from None
        self._medium.reach(self, peer_id)  # who left in the meantime has not answered
        return bytes(answer)

    async def stream_open(
        self, peer_id: PeerID, protocols: Sequence[str]
    ) -> tuple[StreamInfo, asyncio.StreamReader, Any]:
        other = self._medium.reach(self, peer_id)
        await self._medium.carry(self.peer_id, peer_id, 1)
        proto = next((proto for proto in protocols if proto in other.streams), None)
        if proto is None:
            raise P2PDaemonError(f"protocol {protocols} is not supported")
        near, far = _End(self._medium, self, other), _End(self._medium, other, self)
        near.other, far.other = far, near
        info = StreamInfo(self.peer_id, self.info.addrs[0], proto)
        handling = asyncio.ensure_future(other.streams[proto](info, far.reader, far))
        other._handling.add(handling)
        handling.add_done_callback(other._handling.discard)
        return StreamInfo(peer_id, other.info.addrs[0], proto), near.reader, near

    async def open_connection(self) -> tuple[asyncio.StreamReader, "_Control"]:
        """A socket to p2pd, as `ControlClient.stream_open` uses it: one request to open a stream, then the stream."""
        control = _Control(self)
        return control.reader, control


class _Control:
    """The writing end of a control socket: reads one request, then passes on to the stream that it opened."""

    def __init__(self, client: _Client) -> None:
        self.reader = asyncio.StreamReader()
        self._client = client
        self._sent = asyncio.StreamReader()
        self._end: _End | None = None
        self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        request = p2pd_pb2.Request()
        await read_pbmsg_safe(self._sent, request)
        answer = _Answer(self.reader)
        try:
            info, _, end = await self._client.stream_open(
                PeerID(request.streamOpen.peer), list(request.streamOpen.proto)
            )
        except (P2PDaemonError, OSError) as error:
            failure = p2pd_pb2.ErrorResponse(msg=str(error))
            await write_pbmsg(answer, p2pd_pb2.Response(type=p2pd_pb2.Response.ERROR, error=failure))
            return
        await write_pbmsg(answer, p2pd_pb2.Response(type=p2pd_pb2.Response.OK, streamInfo=info.to_protobuf()))
        end.divert(self.reader)
        self._end = end

    def write(self, data: bytes) -> None:
        if self._end is None:
            self._sent.feed_data(data)
        else:
            self._end.write(data)

    async def drain(self) -> None:
        if self._end is not None:
            await self._end.drain()

    def close(self) -> None:
        self._opening.cancel()
        if self._end is not None:
            self._end.close()


class _Answer:
    """What the control socket answers, written straight to its reader."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.write = reader.feed_data

    async def drain(self) -> None:
        return None


class _End(asyncio.Transport):
    """One end of a stream: its writer, and the transport that its reader holds back when it is full."""

    other: "_End"

    def __init__(self, medium: Medium, owner: _Client, remote: _Client) -> None:
        super().__init__()
        self._medium, self._owner, self._remote = medium, owner, remote
        self._buffer = bytearray()
        self._on_the_way: deque[bytes] = deque()
        self._arrives = 0.0
        self._readable = asyncio.Event()
        self._readable.set()
        self._pump: asyncio.Task[None] | None = None
        self._closed = self._broken = False
        self.divert(asyncio.StreamReader())
        owner._open.add(self)

    def divert(self, reader: asyncio.StreamReader) -> None:
        """Let what arrives from now on go to `reader`."""
        self.reader = reader
        reader.set_transport(self)

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            return
        self._buffer += data
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._send())

    async def drain(self) -> None:
        while self._buffer and self._pump is not None and not self._broken:
            await asyncio.wait([self._pump])
        if self._broken:
            raise ConnectionResetError("the stream broke off")

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """What was written still arrives; nothing more is taken from the other side."""
        if not self._closed:
            self._closed = True
            self._closing = asyncio.ensure_future(self._finish())

    async def wait_closed(self) -> None:
        return None

    def reset(self) -> None:
        """Both sides find the stream broken."""
        for end in (self, self.other):
            end._broken = end._closed = True
            end._owner._open.discard(end)
            end.reader.feed_eof()
            if end._pump is not None:
                end._pump.cancel()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        here, there = self._owner.peer_id, self._remote.peer_id
        while self._buffer:
            segment = bytes(self._buffer[:_SEGMENT_BYTES])
            await self.other._readable.wait()
            await self._medium.passable(here, there)
            try:
                left, arrives = self._medium.plan(here, there, len(segment))
            except ConnectionResetError:
                self.reset()
                return
            await asyncio.sleep(max(0.0, left - loop.time()))
            del self._buffer[: len(segment)]
            self._on_the_way.append(segment)
            self._arrives = max(self._arrives, arrives)
            loop.call_at(self._arrives, self._arrive)

    def _arrive(self) -> None:
        segment = self._on_the_way.popleft()
        if not self.other._closed:
            self.other.reader.feed_data(segment)

    async def _finish(self) -> None:
        try:
            await self.drain()
        except ConnectionResetError:
            return
        await asyncio.sleep(max(0.0, self._arrives - asyncio.get_running_loop().time()))
        await asyncio.sleep(0)
        self._owner._open.discard(self)
        if not self._broken:
            self.other.reader.feed_eof()
