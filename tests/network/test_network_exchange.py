"""Real libp2p on loopback: what peers that wish each other well can count on."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest

from swarm.errors import SwarmError
from swarm.identity.key import Identity, load_or_create
from swarm.network import BlobRef, BlobUnavailable, Network
from swarm.network.announcements import encode_record, make, record_key, shard_of
from swarm.network.daemon import free_port
from swarm.network.reach import Reach
from tests.network.network_peers import RemotePeer, is_running, until

Local = Callable[..., Network]
Remote = Callable[..., RemotePeer]


def test_four_peers_exchange(local: Local) -> None:
    peers = [local()]
    peers += [local(bootstrap=peers[0].addresses) for _ in range(3)]
    for number, peer in enumerate(peers):
        peer.announce("round/1", f"from {number}".encode(), 60)
    everybody = {peer.peer_id: f"from {number}".encode() for number, peer in enumerate(peers)}
    for peer in peers:
        until(lambda peer=peer: {who: said.value for who, said in peer.read("round/1").items()} == everybody, 5)
        assert peer.read("round/2") == {}
    started = time.monotonic()
    peers[1].announce("fast", b"now", 60)
    until(lambda: peers[1].peer_id in peers[3].read("fast"), 3)
    assert time.monotonic() - started < 1.5

    peers[1].announce("fast", b"later", 5)  # replaces, though it would live shorter
    until(lambda: peers[3].read("fast")[peers[1].peer_id].value == b"later", 3)

    small, large = os.urandom(100_000), os.urandom(5_000_000)
    small_ref, large_ref, empty_ref = peers[1].put(small), peers[1].put(large), peers[1].put(b"")
    assert peers[2].get(small_ref) is None
    assert peers[2].fetch(small_ref, [peers[1].peer_id], 10) == small
    assert peers[2].get(small_ref) == small
    assert peers[2].fetch(large_ref, [peers[1].peer_id], 20) == large
    absent = BlobRef("0" * 64, 10)
    wanted = {
        small_ref: [peers[2].peer_id],
        large_ref: [peers[0].peer_id, peers[1].peer_id],
        empty_ref: [peers[1].peer_id],
    }
    got = peers[3].fetch_many({**wanted, absent: [peers[1].peer_id]}, 15)
    assert got == {small_ref: small, large_ref: large, empty_ref: b""}
    with pytest.raises(BlobUnavailable, match="does not have it"):
        peers[3].fetch(absent, [peers[1].peer_id], 5)
    with pytest.raises(BlobUnavailable):
        peers[3].fetch(absent, [], 5)
    assert peers[3].traffic().bytes_in == len(small) + len(large) and peers[3].traffic().blobs_in == 3
    assert peers[3].refused() == {}


def test_a_late_joiner_sees_what_was_said_before_and_survives_the_founder(local: Local, remote: Remote) -> None:
    founder = remote().ready()
    first, second = local(bootstrap=founder.addresses), local(bootstrap=founder.addresses)
    founder.call("announce", "early", "from the founder")
    first.announce("early", b"from the first", 600)
    late = local(bootstrap=founder.addresses)
    until(lambda: set(late.read("early")) == {founder.peer_id, first.peer_id}, 5)

    founder.kill()
    for peer in (first, second, late):
        peer.announce("after", b"still here", 600)
    for peer in (first, second, late):
        until(lambda peer=peer: set(peer.read("after")) == {first.peer_id, second.peer_id, late.peer_id}, 10)
        assert peer.read("early")[founder.peer_id].value == b"from the founder"
    later = local(bootstrap=[*founder.addresses, *second.addresses])
    until(lambda: founder.peer_id in later.read("early") and late.peer_id in later.read("after"), 10)


def test_alone_becomes_a_swarm_without_a_restart(local: Local, tmp_path_factory: pytest.TempPathFactory) -> None:
    key_file = tmp_path_factory.mktemp("later") / "key"
    port = free_port("127.0.0.1")
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{load_or_create(key_file).peer_id}"
    early = local(bootstrap=[address])
    assert early.alone
    early.announce("hope", b"is anybody there", 600)
    assert set(early.read("hope", 2)) == {early.peer_id}
    assert early.connect([address], 2) is False
    other = local(key_file=key_file, reach=Reach(port=port))
    assert other.addresses == [address]
    until(lambda: early.peer_id in other.read("hope"), 15)
    assert not early.alone and early.connect([address], 5)
    assert early.fetch(other.put(b"welcome"), [other.peer_id], 5) == b"welcome"


def test_the_next_addresses_are_tried_when_the_first_are_silent(local: Local) -> None:
    founder, gone = local(), local()
    gone.close()
    late = local(bootstrap=gone.addresses, fallbacks=[["nonsense"], [], founder.addresses])
    assert late.peers() == [founder.peer_id]
    with pytest.raises(SwarmError, match="not a peer's address"):
        local(bootstrap=["nonsense"])


def test_what_was_read_is_not_sent_again(local: Local) -> None:
    reader = local()
    holder = local(bootstrap=reader.addresses)
    writers = [Identity(number.to_bytes(32, "big")) for number in range(1, 200)]
    expiry_ms = round((time.time() + 600) * 1000)

    async def hold() -> None:
        for writer in writers:
            said = make(writer, "test swarm", "1/answer", bytes(200), expiry_ms)
            key = record_key("test swarm", "1/answer", shard_of(writer.peer_id))
            holder._node.protocol.keep(key, writer.peer_id, encode_record(said), said.expires)

    holder._call(hold(), 20)
    reader._call(asyncio.sleep(1), 5)  # the heartbeats of the daemon are over
    came = []
    for _ in range(2):
        before = reader.traffic().dht_in
        assert len(reader.read("1/answer")) == len(writers)
        came.append(reader.traffic().dht_in - before)
    assert came[0] > 199 * 300 > 20 * came[1]


def test_only_members_are_heard(local: Local) -> None:
    members: set[str] = set()
    reader = local(is_member=lambda peer_id: peer_id in members)
    stranger = local(bootstrap=reader.addresses)
    stranger.announce("slot", b"let me in", 600)
    time.sleep(0.5)
    assert reader.read("slot") == {}
    assert reader.refused()["not a member"] >= 1
    members.add(stranger.peer_id)
    until(lambda: stranger.peer_id in reader.read("slot"), 8)


def test_swarms_do_not_hear_each_other(local: Local) -> None:
    ours = local()
    theirs = local(swarm_id="another swarm", bootstrap=ours.addresses)
    assert theirs.alone
    theirs.announce("slot", b"hello", 60)
    assert ours.read("slot") == {}


def test_a_daemon_that_dies_comes_back_with_the_same_name_and_address(local: Local) -> None:
    first = local()
    second = local(bootstrap=first.addresses)
    second.announce("slot", b"before", 600)
    assert second._daemon is not None
    old, addresses = second._daemon.pid, second.addresses
    os.kill(old, signal.SIGKILL)
    until(lambda: second._daemon.pid != old and not second.alone, 20)
    assert second.addresses == addresses
    second.announce("slot", b"after", 600)
    until(lambda: first.read("slot")[second.peer_id].value == b"after", 10)
    assert first.fetch(second.put(b"blob"), [second.peer_id], 10) == b"blob"


def test_mistakes_are_told_in_one_sentence(local: Local) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SwarmError, match=r"port \d+ on 127.0.0.1 is used"),
    ):
        local(reach=Reach(port=taken.getsockname()[1]))
    with pytest.raises(SwarmError, match="not a peer's address"):
        local(bootstrap=["/ip4/127.0.0.1/tcp/1"])
    with pytest.raises(SwarmError, match=r"cannot listen on 198.51.100.1"):
        local(reach=Reach(host="198.51.100.1"))
    with pytest.raises(SwarmError, match="not an IP address"):
        local(reach=Reach(host="localhost"))
    with pytest.raises(SwarmError, match="neither an IP address nor a host name"):
        local(reach=Reach(announce_host="not a host"))
    network = local()
    with pytest.raises(ValueError, match="lives up to"):
        network.announce("slot", b"", 3601)
    with pytest.raises(SwarmError, match="not a peer's address"):
        network.connect(["nonsense"], 1)
    assert network._daemon is not None
    daemon = network._daemon.pid
    network.close()
    network.close()
    assert not is_running(daemon)
    with pytest.raises(SwarmError, match="closed"):
        network.read("slot")


def test_a_swarm_larger_than_a_routing_table(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.network.dht.BUCKET_SIZE", 3)
    monkeypatch.setattr("swarm.network.dht.REPLICAS", 3)
    peers = [local()]
    for _ in range(7):
        peers.append(local(bootstrap=peers[-1].addresses))
    for peer in peers:
        peer.announce("round/1", peer.peer_id.encode(), 60)
    everybody = {peer.peer_id for peer in peers}
    for peer in peers:
        until(lambda peer=peer: set(peer.read("round/1")) == everybody, 10)


def test_a_stalled_thread_is_told_from_what_others_do(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends heartbeats takes it for one that failed, and whoever cannot go on tells it in a sentence."""
    peer = local()
    monkeypatch.setattr("swarm.network.node._STALL_S", 0.0)
    go_on = threading.Event()
    peer._loop.call_soon_threadsafe(go_on.wait, 20)
    with pytest.raises(TimeoutError, match="may be overloaded") as stalled:
        peer.read("round/1", timeout_s=0.1)
    go_on.set()
    assert isinstance(stalled.value, SwarmError)
    peer.announce("round/1", b"again", 60)
    assert set(peer.read("round/1")) == {peer.peer_id}
    peer.close()
    with pytest.raises(OSError, match="closed"):
        peer.read("round/1")
