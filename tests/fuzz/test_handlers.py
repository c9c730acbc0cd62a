"""Every call that a peer answers, and every answer that it reads: any bytes give a refusal and leave the peer alive."""

import asyncio
import hashlib
import random

import pytest
from google.protobuf.message import DecodeError
from hivemind.dht.routing import DHTID
from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PHandlerError

from swarm.identity.key import Identity
from swarm.network import BlobRef, BlobUnavailable
from swarm.network.announcements import Refused
from swarm.network.blobs import REQUEST_BYTES, UNARY_MAX_BYTES, encode_request
from swarm.simulate.network import Ether, SimulatedNetwork

ROUNDS = 150
ALLOWED = (Refused.__name__, DecodeError.__name__)


@pytest.fixture
def pair():
    ether = Ether("fuzz")
    yield [SimulatedNetwork(ether, Identity(hashlib.sha256(bytes([n])).digest())) for n in (1, 2)]
    ether.close()


def spoiled(good: bytes, chance: random.Random) -> bytes:
    """Good bytes with some replaced, or anything."""
    if not good or chance.random() < 0.3:
        return chance.randbytes(chance.randrange(200))
    raw = bytearray(good)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(raw))
        raw[place : place + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
        raw = raw or bytearray(1)
    return bytes(raw)


def overheard(target: SimulatedNetwork, caller: SimulatedNetwork) -> dict[str, tuple[bytes, bytes]]:
    """A real request and answer for each call that the target answers."""
    heard: dict[str, tuple[bytes, bytes]] = {name: (b"", b"") for name in target._p2p._client.unary}
    for name, handler in target._p2p._client.unary.items():

        async def listen(data, remote, name=name, handler=handler):
            answer = await handler(data, remote)
            heard[name] = (data, answer)
            return answer

        target._p2p._client.unary[name] = listen
    ref = target.put(b"a blob")
    target.announce("slot", b"value", 60)
    caller.announce("slot", b"other", 60)
    caller.read("slot")
    caller.fetch(ref, [target.peer_id], 5)
    caller.dial_back(target.peer_id, 9)
    return heard


def test_no_request_breaks_a_peer_and_no_answer_its_reader(pair):
    target, caller = pair
    heard = overheard(target, caller)
    exercised = [name for name, (request, _) in heard.items() if request]
    assert len(exercised) >= 4, heard.keys()
    chance = random.Random(4)
    there = PeerID.from_base58(target.peer_id)

    async def flood() -> set[str]:
        troubles = set()
        for name, (request, _) in heard.items():
            for _ in range(ROUNDS):
                try:
                    await asyncio.wait_for(
                        caller._p2p._client.call_unary_handler(there, name, spoiled(request, chance)), 20
                    )
                except P2PHandlerError as error:
                    troubles.add(str(error).partition("(")[0])
        return troubles

    assert caller._call(flood(), 60) <= set(ALLOWED)
    assert target.read("slot")[caller.peer_id].value == b"other", "it still answers"

    for name, (_, answer) in heard.items():

        async def lie(data, remote, answer=answer):
            return spoiled(answer, chance)

        target._p2p._client.unary[name] = lie

    async def listen_to_lies() -> None:
        for number in range(ROUNDS):
            key = DHTID.generate(source=bytes([number]))
            assert isinstance(await caller._node.protocol.call_find(there, [key]), dict | None)
            assert isinstance(await caller._node.protocol.call_look(there, {key: []}), tuple | None)
            await caller._node.protocol.call_ping(there)

    caller._call(listen_to_lies(), 60)
    with pytest.raises(BlobUnavailable):
        caller.fetch(BlobRef("5" * 64, 100), [target.peer_id], 2)
    assert caller.read("slot")[caller.peer_id].value == b"other"


def test_no_frame_of_a_stream_breaks_a_peer_and_no_lie_in_one_its_reader(pair):
    target, caller = pair
    chance = random.Random(5)
    blob, other = chance.randbytes(UNARY_MAX_BYTES + 1000), chance.randbytes(UNARY_MAX_BYTES + 1)
    ref = target.put(blob)
    there, name = PeerID.from_base58(target.peer_id), target._service._get_handle_name(None, "stream")
    resumed = encode_request(ref, UNARY_MAX_BYTES)

    async def ask(request: bytes) -> bytes:
        _, reader, writer = await caller._p2p._client.stream_open(there, [name])
        writer.write(request)
        if len(request) < REQUEST_BYTES:
            writer.close()
            return b""
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def flood() -> list[bytes]:
        return [await ask(request) for request in [resumed, *(spoiled(resumed, chance) for _ in range(ROUNDS))]]

    whole, *answers = caller._call(flood(), 60)
    assert whole == b"\0" + blob[UNARY_MAX_BYTES:]
    assert all(blob.endswith(answer[1:]) for answer in answers if answer[:1] == b"\0")
    assert all(len(answer) <= 1 for answer in answers if answer[:1] != b"\0")
    assert caller.fetch(ref, [target.peer_id], 20) == blob, "it still serves"

    async def lie(info, reader, writer):
        first = int.from_bytes((await reader.readexactly(REQUEST_BYTES))[-8:], "big")
        writer.write(spoiled(b"\0" + other[first : first + chance.randrange(len(other))], chance))
        writer.close()

    target._p2p._client.streams[name] = lie
    for _ in range(4):
        try:
            assert caller.fetch(BlobRef.of(other), [target.peer_id], 3) == other
        except BlobUnavailable:
            pass
