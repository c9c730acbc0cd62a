"""Real libp2p on loopback: peers that die, freeze, lie, flood and forge."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import PeerID
from hivemind.proto import dht_pb2, runtime_pb2

from swarm.identity.key import Identity
from swarm.network import BlobRef, BlobUnavailable, Network, UploadLimits
from swarm.network.announcements import Announcement, encode_record, make, record_key, shard_of
from swarm.network.daemon import _LAUNCHER
from swarm.network.limits import Rate
from tests.network.network_peers import RemotePeer, is_running, until

Local = Callable[..., Network]
Remote = Callable[..., RemotePeer]


def test_a_provider_dies_in_the_middle_and_the_next_one_serves(local: Local, remote: Remote) -> None:
    fetcher = local()
    dying = remote(fetcher.addresses, bytes_per_s=1_500_000).ready()
    good = local(bootstrap=fetcher.addresses)
    ref = BlobRef(**dying.call("put_random", 5_000_000))
    blob = (dying.home / "blobs" / ref.sha256).read_bytes()
    good.put(blob)
    killer = asyncio.run_coroutine_threadsafe(_kill_when_half_way(fetcher, dying), fetcher._loop)
    assert fetcher.fetch(ref, [dying.peer_id, good.peer_id], 30) == blob
    killer.result(10)
    assert good.traffic().blobs_out == 1
    assert good.traffic().bytes_out < len(blob), "it went on where the other broke off"
    assert fetcher.traffic().bytes_in == len(blob)
    with pytest.raises(BlobUnavailable):
        fetcher.fetch(BlobRef("1" * 64, 5_000_000), [dying.peer_id], 4)


async def _kill_when_half_way(fetcher: Network, dying: RemotePeer) -> None:
    while fetcher.traffic().bytes_in < 1_600_000:
        await asyncio.sleep(0.02)
    dying.process.kill()


def test_a_frozen_provider_costs_its_share_of_the_time_only(local: Local, remote: Remote) -> None:
    fetcher = local()
    frozen = remote(fetcher.addresses).ready()
    good = local(bootstrap=fetcher.addresses)
    small, large = good.put(os.urandom(1000)), good.put(os.urandom(2_000_000))
    frozen.freeze()
    for ref in (small, large):
        started = time.monotonic()
        assert len(fetcher.fetch(ref, [frozen.peer_id, good.peer_id], 4)) == ref.size
        assert time.monotonic() - started < 3.5
        started = time.monotonic()
        with pytest.raises(BlobUnavailable):
            fetcher.fetch(BlobRef("2" * 64, ref.size), [frozen.peer_id], 1)
        assert time.monotonic() - started < 2
    started = time.monotonic()
    good.announce("slot", b"still heard", 60)
    until(lambda: good.peer_id in fetcher.read("slot", 3), 5)
    assert time.monotonic() - started < 5
    fetcher.read("slot")
    started = time.monotonic()
    fetcher.read("slot")
    assert time.monotonic() - started < 1, "a peer known to be silent is not waited for"


def test_a_liar_is_found_out(local: Local) -> None:
    fetcher = local()
    liar, good = local(bootstrap=fetcher.addresses), local(bootstrap=fetcher.addresses)
    liar._store.get = lambda ref: bytes(ref.size)  # type: ignore[method-assign]
    for size in (1000, 3_000_000):
        ref = good.put(os.urandom(size))
        assert fetcher.fetch(ref, [liar.peer_id, "nonsense", good.peer_id], 20) == good.get(ref)
    liar._store.get = lambda ref: bytes(max(0, ref.size - 1))  # type: ignore[method-assign]
    with pytest.raises(BlobUnavailable, match="broke off"):
        fetcher.fetch(BlobRef("3" * 64, 3_000_000), [liar.peer_id], 5)
    liar._store.get = lambda ref: bytes(ref.size + 1)  # type: ignore[method-assign]
    with pytest.raises(BlobUnavailable, match="something else"):
        fetcher.fetch(BlobRef("3" * 64, 1000), [liar.peer_id], 5)
    assert fetcher.refused()["wrong blob"] == 3


def test_a_false_part_is_found_out_though_an_honest_peer_ends_the_blob(local: Local) -> None:
    fetcher = local()
    liar, good = local(bootstrap=fetcher.addresses), local(bootstrap=fetcher.addresses)
    ref = good.put(os.urandom(3_000_000))
    liar._store.get = lambda ref: bytes(1_000_000)  # type: ignore[method-assign]
    assert fetcher.fetch(ref, [liar.peer_id, good.peer_id], 20) == good.get(ref)
    assert good.traffic().blobs_out == 2, "what it added to the false part, and the whole"


def test_uploads_keep_within_their_memory(local: Local) -> None:
    server = local(upload_limits=UploadLimits(memory_bytes=5_000_000, bytes_per_s=Rate(2_000_000, 2_000_000)))
    first, second = local(bootstrap=server.addresses), local(bootstrap=server.addresses)
    large = [server.put(os.urandom(4_000_000)) for _ in range(2)]
    slow = threading.Thread(target=first.fetch, args=(large[0], [server.peer_id], 30))
    slow.start()
    until(lambda: server.queues().uploads == 1)
    assert len(second.fetch(large[1], [server.peer_id], 30)) == large[1].size, "it is busy for a while, and then serves"
    slow.join(10)
    assert server.refused()["too many uploads"] >= 1
    assert server.queues().uploads == 0


def test_a_flooder_is_refused_and_others_are_served(local: Local) -> None:
    limits = UploadLimits(uploads_per_peer=2, requests_per_s=Rate(2, 5))
    server = local(upload_limits=limits)
    flooder, honest = local(bootstrap=server.addresses), local(bootstrap=server.addresses)
    until(lambda: all(server._members.known(peer.peer_id) for peer in (flooder, honest)))
    wanted = {server.put(os.urandom(100)): [server.peer_id] for _ in range(30)}
    got = flooder.fetch_many(wanted, 3)
    assert 0 < len(got) < 30
    assert server.refused()["too many blob requests"] > 0
    last = server.put(b"for the honest")
    assert honest.fetch(last, [server.peer_id], 5) == b"for the honest"


def test_malformed_blob_requests_are_refused(local: Local) -> None:
    server = local()
    hostile = local(bootstrap=server.addresses)
    peer = PeerID.from_base58(server.peer_id)

    async def send(raw: bytes) -> bytes:
        name = hostile._service._get_handle_name(None, "stream")
        _, reader, writer = await hostile._p2p.call_binary_stream_handler(peer, name)
        writer.write(raw)
        answer = await reader.read(10)
        writer.close()
        return answer

    async def send_unary(raw: bytes) -> bytes:
        stub = type(hostile._service).get_stub(hostile._p2p, peer)
        return bytes((await stub.rpc_small(runtime_pb2.ExpertInfo(serialized_info=raw), timeout=5)).serialized_info)

    for raw in (bytes(49), b"\xff" * 49, b"\x02" + b"\xff" * 48, os.urandom(100_000)):
        # Who sends more than a request may find the stream reset before the refusal is read.
        assert hostile._call(send(raw), 5) in ((b"\x03",) if len(raw) == 49 else (b"\x03", b""))
        assert hostile._call(send_unary(raw), 5) == b"\x03"
    assert server.refused() == {"malformed blob request": 8}


def test_forged_records_hide_no_good_one(local: Local) -> None:
    readers = [local()]
    readers += [local(bootstrap=readers[0].addresses) for _ in range(2)]
    mallory = local(bootstrap=readers[0].addresses)
    for reader in readers:
        reader.announce("slot", b"good", 600)
    victim = readers[1]
    said = victim.read("slot")[victim.peer_id]
    own = mallory._identity
    now_ms = round(time.time() * 1000)
    ours = make(own, "test swarm", "slot", b"mine", now_ms + 100_000)
    key, own_key = (record_key("test swarm", "slot", shard_of(who)) for who in (victim.peer_id, own.peer_id))
    later = said.expires + 100
    far = make(own, "test swarm", "slot", b"far", now_ms + 9_000_000)
    big = Announcement(own.peer_id, "slot", bytes(5000), ours.expires, ours.signature)
    elsewhere = make(own, "other swarm", "slot", b"x", now_ms + 100_000)
    bad: list[tuple[bytes, object, bytes, float]] = [
        (key, None, encode_record(said), later),  # a plain value on the victim's key
        (key, victim.peer_id, encode_record(replace(said, value=b"forged", expires=later)), later),
        (key, victim.peer_id, encode_record(said), later),  # prolonged
        (key, own.peer_id, encode_record(replace(said, expires=later)), later),
        (key, "not a peer", encode_record(said), said.expires),
        (
            record_key("test swarm", "other", shard_of(victim.peer_id)),
            victim.peer_id,
            encode_record(said),
            said.expires,
        ),
        (own_key, own.peer_id, encode_record(far), far.expires),
        (own_key, own.peer_id, encode_record(big), big.expires),
        (own_key, own.peer_id, encode_record(elsewhere), elsewhere.expires),
        (os.urandom(20), own.peer_id, encode_record(ours), ours.expires),
        (key, 7, b"", later),
    ]
    _serve_unchecked(mallory, bad)
    for reader in readers:
        answers = mallory._call(_store_unchecked(mallory, reader, bad, ours, own_key), 10)
        assert answers[: len(bad)] == [False] * len(bad)
        assert answers[len(bad)] is False, "the dictionary held a bad entry"
    good = {reader.peer_id: b"good" for reader in readers}
    for reader in readers:
        found = {who: what.value for who, what in reader.read("slot").items()}
        assert found == {**good, own.peer_id: b"mine"}, "the good entry of the mixed dictionary counts, the bad do not"
        assert reader.read("other") == {}
        refused = reader.refused()
        for reason in ("plain value", "wrong expiry", "bad signature", "expiry too far", "too large", "wrong key"):
            assert refused.get(reason, 0) >= 1, (reason, refused)
    late = local(bootstrap=mallory.addresses)
    until(lambda: set(late.read("slot")) == {*good, own.peer_id}, 5)


def _serve_unchecked(mallory: Network, bad: list[tuple[bytes, object, bytes, float]]) -> None:
    """Put the bad entries into mallory's own store, past every check, so that mallory serves them to readers."""
    protocol = mallory._node.protocol

    async def put() -> None:
        for key, subkey, raw, expires in bad:
            if isinstance(subkey, str):
                protocol.storage.store_subkey(DHTID.from_bytes(key), subkey, raw, expires)

    mallory._call(put(), 5)


async def _store_unchecked(
    mallory: Network, reader: Network, bad: list[tuple[bytes, object, bytes, float]], ours: Announcement, own_key: bytes
) -> list[bool]:
    mixed = DictionaryDHTValue()
    mixed.store("not a peer", b"junk", ours.expires)
    mixed.store(ours.peer_id, encode_record(ours), ours.expires)
    protocol = mallory._node.protocol
    rows = [(key, msgpack.packb(subkey), raw, expires) for key, subkey, raw, expires in bad]
    rows.append((own_key, protocol.IS_DICTIONARY, protocol.serializer.dumps(mixed), ours.expires))
    rows.append((own_key, protocol.IS_DICTIONARY, b"\xc1\xc1", ours.expires))
    request = dht_pb2.StoreRequest(
        keys=[row[0] for row in rows],
        subkeys=[row[1] for row in rows],
        values=[row[2] for row in rows],
        expiration_time=[row[3] for row in rows],
        in_cache=[False] * len(rows),
        peer=protocol.node_info,
    )
    response = await protocol.get_stub(PeerID.from_base58(reader.peer_id)).rpc_store(request, timeout=5)
    return list(response.store_ok)


def test_one_writer_cannot_fill_the_store(local: Local) -> None:
    network = local()
    writer = Identity(os.urandom(32))

    async def fill() -> int:
        kept = 0
        for number in range(600):
            said = make(writer, "test swarm", f"slot/{number}", b"x" * 900, round((time.time() + 60) * 1000))
            key = record_key("test swarm", said.slot, shard_of(writer.peer_id))
            kept += network._node.protocol.keep(key, writer.peer_id, encode_record(said), said.expires)
        return kept

    assert network._call(fill(), 20) == 512
    assert network.refused() == {"too many records": 88}


def test_a_node_id_cannot_be_chosen(local: Local) -> None:
    network = local()
    hostile = local()
    hostile._node.protocol.node_info = dht_pb2.NodeInfo(node_id=bytes(20))
    hostile.connect(network.addresses, 5)
    assert network.peers() == []
    assert network.refused()["borrowed node id"] >= 1


def test_kill_minus_nine_of_a_peer_leaves_no_daemon(remote: Remote) -> None:
    peer = remote().ready()
    os.kill(peer.daemon, signal.SIGSTOP)  # so that it cannot end of its own accord when its socket closes
    assert is_running(peer.daemon)
    peer.kill()
    until(lambda: not is_running(peer.daemon), 3)


def test_ctrl_c_does_not_reach_the_daemon(local: Local, remote: Remote) -> None:
    reader = local()
    peer = remote(reader.addresses).ready()
    os.killpg(peer.process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert is_running(peer.daemon)
    peer.call("announce", "goodbye", "I was interrupted")
    until(lambda: peer.peer_id in reader.read("goodbye"), 5)
    peer.call("close")
    assert not is_running(peer.daemon)


def test_where_the_kernel_does_not_help_a_watcher_ends_the_daemon() -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-I', '-S', '-c', {_LAUNCHER!r}, str(os.getpid()), 'watch',"
            " '/bin/sleep', '60'])\n"
            "print(child.pid, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    daemon = int(parent.stdout.readline())
    time.sleep(0.7)
    assert is_running(daemon)
    parent.kill()
    parent.wait()
    until(lambda: not is_running(daemon), 3)


def test_forged_signatures_cost_their_sender_not_the_receiver(local: Local) -> None:
    network = local()
    hostile = local(bootstrap=network.addresses)
    until(lambda: network._members.known(hostile.peer_id))
    said = make(hostile._identity, "test swarm", "slot", b"x", round((time.time() + 60) * 1000))
    key = record_key("test swarm", "slot", shard_of(hostile.peer_id))
    protocol = hostile._node.protocol
    rows = [encode_record(replace(said, value=number.to_bytes(4, "big"))) for number in range(3000)]
    request = dht_pb2.StoreRequest(
        keys=[key] * len(rows),
        subkeys=[msgpack.packb(hostile.peer_id)] * len(rows),
        values=rows,
        expiration_time=[said.expires] * len(rows),
        in_cache=[False] * len(rows),
        peer=protocol.node_info,
    )

    async def send() -> list[bool]:
        stub = protocol.get_stub(PeerID.from_base58(network.peer_id))
        return list((await stub.rpc_store(request, timeout=10)).store_ok)

    assert not any(hostile._call(send(), 12))
    assert network.refused()["bad signature"] < 300, "the rest was refused unread"
    assert network.refused()["too many requests"] > 2000


def test_a_program_that_forgets_to_close_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from swarm.identity.key import load_or_create; from swarm.network import Network\n"
        f"home = Path({str(tmp_path)!r}); identity = load_or_create(home / 'key')\n"
        "network = Network.start(identity, home / 'key', 's', blob_dir=home / 'b', is_member=lambda _: True)\n"
        "print(network._daemon.pid)"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stderr == ""
    assert not is_running(int(ended.stdout))
