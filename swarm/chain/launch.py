"""Starting the embedded development chain from another process."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from swarm.errors import SwarmError

LOG_NAME = "node.log"
STOP_TIMEOUT_S = 5.0


class RunningNode:
    """A node process that this process started. It ends with `stop()`, or by itself when this process ends."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, chain_id: int) -> None:
        self._process = process
        self.url = url
        self.chain_id = chain_id
        self.pid = process.pid

    def __repr__(self) -> str:
        return f"RunningNode({self.url}, chain {self.chain_id}, process {self.pid})"

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the node and wait until it is gone. Stopping twice is fine."""
        _end(self._process)


def start_node(home: Path, host: str = "127.0.0.1", port: int = 0, timeout_s: float = 60) -> RunningNode:
    """Start the development chain in `home` and wait until it serves. What it logs goes to `home/node.log`.

    Port 0 is the port of last time if it is free, else any free one.

    Raises:
        SwarmError: another node runs in `home`, the port is taken, or it did not start within `timeout_s` seconds.
    """
    home.mkdir(parents=True, exist_ok=True)
    log_path = home / LOG_NAME
    command = [sys.executable, "-m", "swarm.chain.node", "--home", str(home), "--host", host, "--port", str(port)]
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end tells the node that we are gone
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # the terminal's Ctrl-C is for us; the node must outlive our cleanup
            env=_environment(),
        )
    try:
        first_line = _first_line(process, timeout_s)
        if not first_line:
            what = f"did not start within {timeout_s:g} s" if first_line is None else "ended before it served"
            raise SwarmError(f"the development chain in {home} {what}; {log_path} says why")
        ready = json.loads(first_line)
        if "error" in ready:
            raise SwarmError(ready["error"])
        return RunningNode(process, ready["url"], ready["chain_id"])
    except BaseException:
        _end(process)
        raise


def _environment() -> dict[str, str]:
    """Ours, plus the place of this package: it need be neither installed nor below the current directory."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _first_line(process: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    """The node's first line; empty where it ended, None where it said nothing within the time."""
    lines: list[bytes] = []
    stdout = process.stdout
    assert stdout is not None
    reader = threading.Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(timeout_s)
    return lines[0] if lines else None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
