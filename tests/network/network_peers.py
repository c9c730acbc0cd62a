"""A peer in another process, and how to wait for things, for the network's tests."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ANSWER_S = 60


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
    """A peer in another process, started by the command line `prefix`."""

    prefix: tuple[str, ...] = ()

    def __init__(self, home: Path, bootstrap: list[str], **settings: Any) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        arguments = {"home": str(home), "bootstrap": bootstrap, "swarm_id": "test swarm", **settings}
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, str(Path(__file__).with_name("remote_peer.py")), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._ready: dict[str, Any] = {}

    def ready(self) -> "RemotePeer":
        if not self._ready:
            self._ready = self.answer()
            self.peer_id: str = self._ready["peer_id"]
            self.addresses: list[str] = self._ready["addresses"]
            self.daemon: int = self._ready["daemon"]
        return self

    def call(self, name: str, *arguments: Any) -> Any:
        self.send(name, *arguments)
        return self.answer()

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

    def answer(self) -> Any:
        """What came of the oldest call that was only sent."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], ANSWER_S)[0], "the remote peer does not answer"
        line = self.process.stdout.readline()
        assert line, "the remote peer ended"
        return json.loads(line)
