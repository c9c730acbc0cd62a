"""Dial-back: a peer asks another whether it can be reached from there, and what time it is there.

Promise to the one who is asked: it dials only the address from which the caller is connected, on one port, for three
seconds, a few times a minute and not at all for relayed callers, so that nobody can point it at somebody else.
"""

import asyncio
import ipaddress
import time
from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.message import DecodeError
from hivemind.p2p import P2P, P2PContext, PeerID, ServicerBase
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, P2PHandlerError
from hivemind.proto import runtime_pb2

from swarm.network.announcements import Refused
from swarm.network.limits import Rate, TokenBuckets

DIAL_S = 3.0
CALL_S = 10.0
_VERSION = 1
_GREETING = b"\x13/multistream/1.0.0\n"
_PER_CALLER = Rate(per_second=1 / 20, burst=3)
_IN_ALL = Rate(per_second=1 / 2, burst=10)


class Outcome(IntEnum):
    """What the one who was asked found."""

    REACHED = 0
    NOT_REACHED = 1
    RELAYED = 2
    """The caller is connected through a relay, so its address is not known."""
    BUSY = 3
    MALFORMED = 4


@dataclass(frozen=True)
class Answer:
    """What a peer says about the caller, and its clock (unix seconds) when it said so."""

    outcome: Outcome
    clock: float


def encode_request(port: int) -> bytes:
    """A request to dial TCP port `port`, 3 bytes."""
    return bytes([_VERSION]) + port.to_bytes(2, "big")


def decode_request(raw: bytes) -> int:
    """The port to dial. Raises Refused, and nothing else, for bytes that are no request."""
    if len(raw) != 3 or raw[0] != _VERSION or raw[1:] == b"\0\0":
        raise Refused("malformed dial-back request")
    return int.from_bytes(raw[1:], "big")


def encode_answer(answer: Answer) -> bytes:
    return bytes([answer.outcome]) + round(answer.clock * 1000).to_bytes(8, "big")


def decode_answer(raw: bytes) -> Answer:
    """The answer. Raises Refused, and nothing else, for bytes that are none."""
    if len(raw) != 9 or raw[0] > max(Outcome):
        raise Refused("malformed dial-back answer")
    return Answer(Outcome(raw[0]), int.from_bytes(raw[1:], "big") / 1000)


class DialBack(ServicerBase):
    """Answers and asks for dial-backs in one swarm."""

    _rpc_handlers = None
    _stub_type = None
    namespace = ""

    @classmethod
    def bound_to(cls, namespace: str) -> "type[DialBack]":
        """A class whose calls carry the swarm's name."""
        return type("DialBack", (cls,), {"namespace": namespace, "_rpc_handlers": None, "_stub_type": None})

    def __init__(self) -> None:
        self._per_caller, self._in_all = TokenBuckets(_PER_CALLER), TokenBuckets(_IN_ALL)
        self._p2p: P2P | None = None

    @classmethod
    def _get_handle_name(cls, namespace: str | None, method_name: str) -> str:
        return f"{cls.namespace}.dialback.{method_name}"

    async def serve_on(self, p2p: P2P) -> None:
        """Begin to answer requests that arrive at `p2p`."""
        self._p2p = p2p
        await self.add_p2p_handlers(p2p)

    async def rpc_dial(self, request: runtime_pb2.ExpertInfo, context: P2PContext) -> runtime_pb2.ExpertInfo:
        """Answer with an outcome byte and the time here in milliseconds."""
        outcome = await self._outcome(request.serialized_info, context.remote_id)
        return runtime_pb2.ExpertInfo(serialized_info=encode_answer(Answer(outcome, time.time())))

    async def ask(self, p2p: P2P, peer: PeerID, port: int) -> Answer:
        """Ask `peer` to dial this machine's TCP port.

        Raises:
            TimeoutError, OSError, Refused: there was no answer, or none that makes sense.
        """
        stub = self.get_stub(p2p, peer)
        try:
            answer = await stub.rpc_dial(runtime_pb2.ExpertInfo(serialized_info=encode_request(port)), timeout=CALL_S)
        except (P2PDaemonError, P2PHandlerError) as error:
            raise ConnectionError(str(error)) from None
        except DecodeError:
            raise Refused("malformed dial-back answer") from None
        return decode_answer(bytes(answer.serialized_info))

    async def _outcome(self, raw: bytes, caller: PeerID) -> Outcome:
        try:
            port = decode_request(raw)
        except Refused:
            return Outcome.MALFORMED
        if not self._per_caller.take(caller.to_base58(), 1) or not self._in_all.take("", 1):
            return Outcome.BUSY
        address = await self._observed(caller)
        if address is None:
            return Outcome.RELAYED
        return Outcome.REACHED if await greets(address, port) else Outcome.NOT_REACHED

    async def _observed(self, caller: PeerID) -> str | None:
        """The IP address from which `caller` is connected; None if that is a relay's."""
        assert self._p2p is not None
        for info in await asyncio.wait_for(self._p2p.list_peers(), DIAL_S):
            if info.peer_id == caller:
                return next(filter(None, (ip_of(str(way)) for way in info.addrs)), None)
        return None


def ip_of(way: str) -> str | None:
    """The IP address in a multiaddr that leads to a peer directly; None for any other."""
    parts = way.split("/")
    if len(parts) < 3 or parts[1] not in ("ip4", "ip6") or "p2p-circuit" in parts:
        return None
    try:
        return str(ipaddress.ip_address(parts[2]))
    except ValueError:
        return None


async def greets(address: str, port: int) -> bool:
    """Whether something at this TCP port greets as libp2p does, within three seconds."""
    try:
        async with asyncio.timeout(DIAL_S):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(_GREETING)
                return await reader.readexactly(len(_GREETING)) == _GREETING
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
