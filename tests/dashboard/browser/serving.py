"""The dashboard as a process of its own, which can die and come back."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.lifetime import start

START_S = 60
STOP_S = 15


class Serving:
    """`python -m swarm dashboard` over a folder, always on the same port."""

    def __init__(self, home: Path, *flags: str) -> None:
        self.home = home
        self._flags = flags
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        command = [sys.executable, "-m", "swarm", "dashboard", "--home", self.home, "--port", str(self.port), "--plain"]
        self._process = start([*command, *self._flags], stdout=subprocess.PIPE, text=True)
        late = threading.Timer(START_S, self._process.kill)
        late.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        late.cancel()
        if not line:
            raise RuntimeError(f"the dashboard ended, or did not listen within {START_S} s; what it said is above")
        assert json.loads(line)["event"] == "dashboard", line

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)
        self._process = None


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
