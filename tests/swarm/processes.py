"""Real peers in real processes, driven by the tests: started, read, killed, and never left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.lifetime import start

ROOT = Path(__file__).parents[2]
Event = dict


class PeerProcess:
    """`python -m swarm.join --plain ...` and the events that it prints."""

    def __init__(
        self, *arguments: object, environment: dict[str, str] | None = None, module: str = "swarm.join"
    ) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self.process = start(
            [sys.executable, "-m", module, "--plain", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **(environment or {})},
            start_new_session=True,
        )
        self.pid = self.process.pid
        self.stderr = b""
        self._ended = False
        self._readers = [threading.Thread(target=reader, daemon=True) for reader in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait_for(self, kind: str, timeout_s: float, where: Callable[[Event], bool] = lambda event: True) -> Event:
        """The first event of a kind that meets a condition, past ones included."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = next((event for event in self.events if event["event"] == kind and where(event)), None)
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    tail = "\n".join(json.dumps(event)[:300] for event in self.events[-15:])
                    raise AssertionError(
                        f"no {kind!r} event; the last ones:\n{tail}\nstderr: {self.stderr.decode()[-2000:]}"
                    )
                self._changed.wait(left)

    def of(self, kind: str) -> list[Event]:
        with self._changed:
            return [event for event in self.events if event["event"] == kind]

    def finish(self, timeout_s: float) -> int:
        """Wait for its end and return its exit status."""
        status = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(10)
        return status

    def kill(self) -> None:
        """kill -9, as if the power had gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            with self._changed:
                self.events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr += line


def all_gone(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those of the processes that still run after a while; none is what the tests want."""
    _, alive = psutil.wait_procs(processes, timeout_s)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
