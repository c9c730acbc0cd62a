"""Peers for the network's tests, all on loopback with any free port. Nothing that a test starts outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.identity.key import load_or_create
from swarm.network import Network

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], Any], timeout_s: float = 10) -> Any:
    """The first true result of `condition`; fails the test when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"not so within {timeout_s} s")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


class RemotePeer:
    """A peer in another process."""

    def __init__(self, home: Path, bootstrap: list[str], **settings: Any) -> None:
        home.mkdir(parents=True, exist_ok=True)
        arguments = {"home": str(home), "bootstrap": bootstrap, "swarm_id": "test swarm", **settings}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("remote_peer.py")), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._ready: dict[str, Any] = {}

    def ready(self) -> "RemotePeer":
        if not self._ready:
            self._ready = self._answer()
            self.peer_id: str = self._ready["peer_id"]
            self.addresses: list[str] = self._ready["addresses"]
            self.daemon: int = self._ready["daemon"]
        return self

    def call(self, name: str, *arguments: Any) -> Any:
        self.send(name, *arguments)
        return self._answer()

    def send(self, name: str, *arguments: Any) -> None:
        self.ready()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.kill(self.daemon, signal.SIGSTOP)

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the remote peer ended"
        return json.loads(line)


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
