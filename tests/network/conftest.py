"""Peers for the network's tests, all on loopback with any free port. Nothing that a test starts outlives it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.identity.key import load_or_create
from swarm.network import Network
from tests.network.network_peers import RemotePeer


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Callable[..., RemotePeer]]:
    """Makes remote peers: `remote(bootstrap=[...])`, and call `.ready()` on the result."""
    peers: list[RemotePeer] = []

    def make(bootstrap: list[str] | None = None, **settings: Any) -> RemotePeer:
        peers.append(RemotePeer(tmp_path / f"remote{len(peers)}", bootstrap or [], **settings))
        return peers[-1]

    yield make
    for peer in peers:
        peer.kill()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Callable[..., Network]]:
    """Makes peers in this process: `local(bootstrap=[...])`, with the arguments of Network.start."""
    networks: list[Network] = []

    def make(**settings: Any) -> Network:
        home = tmp_path / f"local{len(networks)}"
        arguments = {"swarm_id": "test swarm", "blob_dir": home / "blobs", "is_member": lambda _: True, **settings}
        key_file = arguments.pop("key_file", home / "key")
        networks.append(Network.start(load_or_create(key_file), key_file, **arguments))
        return networks[-1]

    yield make
    for network in networks:
        network.close()
