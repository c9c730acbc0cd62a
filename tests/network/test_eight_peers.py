"""Eight peers in eight processes over real libp2p: one swarm that the tests, in this order, put through everything."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.network import BlobRef
from tests.network.network_peers import RemotePeer, is_running, until

PEERS = 8
LARGE = 6_000_000


class Swarm:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all = [RemotePeer(folder / "0", [])]
        for number in range(1, PEERS):
            self.start(str(number))
        self.live = [peer.ready() for peer in self._all]

    def start(self, name: str, **settings: object) -> RemotePeer:
        """A process with the home `name`, which may have had one before."""
        peer = RemotePeer(self._folder / name, self._all[0].ready().addresses, bytes_per_s=2_000_000, **settings)
        self._all.append(peer)
        return peer

    def end(self) -> None:
        for peer in self._all:
            peer.kill()
            if hasattr(peer, "daemon") and is_running(peer.daemon):
                os.kill(peer.daemon, signal.SIGKILL)  # one that was frozen cannot end by itself

    def exchange(self, slot: str) -> None:
        """Everybody says where a blob of its own is, hears it from all others and fetches all of them."""
        refs = {peer.peer_id: peer.call("put_random", 20_000) for peer in self.live}
        for peer in self.live:
            peer.call("announce", slot, refs[peer.peer_id]["sha256"])
        said = {peer_id: ref["sha256"] for peer_id, ref in refs.items()}
        for peer in self.live:
            until(lambda peer=peer: peer.call("read", slot) == said, 15)
        wanted = {peer_id: (ref["sha256"], ref["size"]) for peer_id, ref in refs.items()}
        for peer in self.live:
            peer.send("fetch_all", wanted)
        for peer in self.live:
            assert peer.answer() == sorted(said.values())


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    running = Swarm(tmp_path_factory.mktemp("eight"))
    yield running
    running.end()


def test_all_exchange(swarm: Swarm) -> None:
    swarm.exchange("1/answer")


def test_killed_in_mid_transfer_another_provider_goes_on(swarm: Swarm) -> None:
    fetcher, dying, good = swarm.live[1], swarm.live[-1], swarm.live[2]
    ref = BlobRef(**dying.call("put_random", LARGE))
    assert good.call("fetch", ref.sha256, ref.size, [dying.peer_id]) == LARGE
    before = fetcher.call("bytes_in")
    fetcher.send("fetch", ref.sha256, ref.size, [dying.peer_id, good.peer_id])
    partial = threading.Timer(1.0, dying.kill)  # it gives 2 MB at once and 2 MB a second
    partial.start()
    assert fetcher.answer() == LARGE
    partial.join()
    assert fetcher.call("bytes_in") - before == LARGE, "nothing was sent twice"
    until(lambda: not is_running(dying.daemon), 5)
    swarm.live.pop()


def test_a_frozen_peer_holds_nobody_up(swarm: Swarm) -> None:
    frozen = swarm.live.pop()
    frozen.freeze()
    for number, peer in enumerate(swarm.live):
        peer.call("announce", "2/answer", str(number))
    said = {peer.peer_id: str(number) for number, peer in enumerate(swarm.live)}
    for peer in swarm.live:
        until(lambda peer=peer: peer.call("read", "2/answer") == said, 15)


def test_a_killed_peer_returns_as_itself_and_hears_what_was_said(swarm: Swarm) -> None:
    returned = swarm.start(str(PEERS - 1)).ready()
    swarm.live.append(returned)
    until(lambda: len(returned.call("read", "2/answer")) == PEERS - 2, 15)
    assert returned.peer_id in returned.call("read", "1/answer"), "its own words of before are kept by others"


def test_without_the_founder_all_exchange_and_a_late_joiner_too(swarm: Swarm) -> None:
    swarm.live.pop(0).kill()
    late = RemotePeer(swarm._folder / "late", [swarm.live[0].addresses[0], swarm.live[3].addresses[0]])
    swarm._all.append(late)
    swarm.live.append(late.ready())
    swarm.exchange("3/answer")
    assert len(late.call("read", "1/answer")) == PEERS, "it hears also those who are gone"
