"""libp2p in memory: what it delays, loses, stalls and counts, and hundreds of real peers on it."""

import asyncio
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hivemind.p2p import P2PContext, PeerID, ServicerBase
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, P2PHandlerError
from hivemind.proto import runtime_pb2

from swarm.identity.key import Identity
from swarm.network import BlobRef, BlobUnavailable
from swarm.simulate.network import Ether, SimulatedNetwork
from swarm.simulate.transport import Line, Medium, MemoryP2P

A, B = (PeerID.from_base58(Identity(bytes([n]) * 32).peer_id) for n in (1, 2))


class Echo(ServicerBase):
    async def rpc_echo(self, request: runtime_pb2.ExpertInfo, context: P2PContext) -> runtime_pb2.ExpertInfo:
        if request.serialized_info == b"fail":
            raise ValueError("as asked")
        return runtime_pb2.ExpertInfo(serialized_info=request.serialized_info + context.remote_id.to_bytes())


async def pair(medium: Medium) -> tuple[MemoryP2P, MemoryP2P]:
    first, second = await MemoryP2P.join(medium, A), await MemoryP2P.join(medium, B)
    await Echo().add_p2p_handlers(second)
    return first, second


async def echo(p2p: MemoryP2P, data: bytes, timeout_s: float = 5) -> bytes:
    answer = await Echo.get_stub(p2p, B).rpc_echo(runtime_pb2.ExpertInfo(serialized_info=data), timeout=timeout_s)
    return bytes(answer.serialized_info)


def test_calls_know_their_caller_and_fail_as_over_libp2p() -> None:
    async def run() -> None:
        medium = Medium()
        first, second = await pair(medium)
        assert await echo(first, b"hello") == b"hello" + A.to_bytes()
        assert medium.bytes_out[A] == medium.bytes_in[B] > 0
        with pytest.raises(P2PHandlerError, match="as asked"):
            await echo(first, b"fail")
        with pytest.raises(P2PDaemonError, match="exceeds"):
            await echo(first, bytes(5 * 2**20))
        await second.shutdown()
        with pytest.raises(P2PDaemonError, match="dial"):
            await echo(first, b"hello")

    asyncio.run(run())


def test_lines_delay_limit_lose_and_stall() -> None:
    async def run() -> None:
        medium = Medium(Line(latency_s=0.01, bytes_per_s=1e6), seed=1)
        first, _ = await pair(medium)
        started = time.monotonic()
        await echo(first, bytes(100_000))
        assert time.monotonic() - started >= 2 * (0.1 + 0.02), "a tenth of a second for the bytes each way"
        medium.stall(B)
        with pytest.raises(TimeoutError):
            await echo(first, b"anybody?", 0.1)
        medium.resume(B)
        assert await echo(first, b"back")
        medium.lines[B] = Line(loss=1.0)
        with pytest.raises(P2PDaemonError, match="lost too often"):
            await echo(first, b"lost")

    asyncio.run(run())


def test_a_stream_carries_everything_in_order_and_breaks_when_its_peer_leaves() -> None:
    async def run() -> None:
        medium = Medium(Line(latency_s=0.001, loss=0.02), seed=3)
        first, second = await pair(medium)
        data = os.urandom(1_500_000)

        async def serve(info, reader, writer) -> None:
            assert info.peer_id == A
            asked = await reader.readexactly(4)
            writer.write(data if asked == b"full" else data[:100])
            await writer.drain()
            if asked == b"full":
                writer.close()

        await second.add_binary_stream_handler("data", serve)
        _, reader, writer = await first.call_binary_stream_handler(B, "data")
        writer.write(b"full")
        assert await asyncio.wait_for(reader.read(-1), 20) == data
        _, reader, writer = await first.call_binary_stream_handler(B, "data")
        writer.write(b"part")
        assert await reader.readexactly(100) == data[:100]
        await second.shutdown()
        assert await asyncio.wait_for(reader.read(-1), 5) == b""
        with pytest.raises(P2PDaemonError):
            await first.call_binary_stream_handler(B, "data")

    asyncio.run(run())


@pytest.fixture
def ether():
    made = Ether("simulated")
    yield made
    made.close()


def peers(ether: Ether, count: int) -> list[SimulatedNetwork]:
    identities = [Identity(hashlib.sha256(b"%d" % number).digest()) for number in range(count)]
    first = [SimulatedNetwork(ether, identity) for identity in identities[:3]]
    with ThreadPoolExecutor(4) as pool:
        return first + list(pool.map(lambda identity: SimulatedNetwork(ether, identity), identities[3:]))


def test_the_real_services_over_the_simulated_lines(ether: Ether) -> None:
    giver, taker, liar = peers(ether, 3)
    small, large = giver.put(os.urandom(1000)), giver.put(os.urandom(3_000_000))
    giver.announce("slot", small.sha256.encode(), 60)
    assert taker.read("slot")[giver.peer_id].value == small.sha256.encode()
    for ref in (small, large):
        assert taker.fetch(ref, [liar.peer_id, giver.peer_id], 20) == giver.get(ref)
    ether.medium.stall(PeerID.from_base58(giver.peer_id))
    with pytest.raises(BlobUnavailable):
        liar.fetch(BlobRef(small.sha256, small.size), [giver.peer_id], 0.5)
    giver.close()
    with pytest.raises(BlobUnavailable):
        liar.fetch(BlobRef(small.sha256, small.size), [giver.peer_id], 0.5)


def test_hundreds_of_peers_hear_each_other(ether: Ether) -> None:
    everybody = peers(ether, 500)
    speakers, readers = everybody[::50], everybody[7::100]
    blob = speakers[0].put(b"what all may have")
    for speaker in speakers:
        speaker.announce("slot", b"here", 600)
    for reader in readers:
        assert set(reader.read("slot", 30)) == {speaker.peer_id for speaker in speakers}
        assert reader.fetch(blob, [speakers[0].peer_id], 10) == b"what all may have"
