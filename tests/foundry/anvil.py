"""anvil as a node that the tests can kill and start again; it never outlives them."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from swarm.chain.client import Chain
from swarm.chain.rpc import Rpc
from tests.foundry.tools import tool

START_TIMEOUT_S = 20.0
FUNDS_WEI = 10**18
# The shell kills anvil once its own input ends, which is when the test process does.
_UNTIL_INPUT_ENDS = '"$@" </dev/null >"$0" 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null'


class Anvil:
    """A node with its state on disk, at the same url after each start."""

    def __init__(self, home: Path, *options: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._options = options
        self.chain_id = 1_000_000_000 + int.from_bytes(os.urandom(4), "big")
        self._port = 0  # any free one, and the same again after a kill
        self.start()
        self.url = f"http://127.0.0.1:{self._port}"
        self._rpc = Rpc(self.url, 10)

    def start(self) -> None:
        log_path = self._home / "log"
        log_path.write_text("")
        state = ["--state", str(self._home / "state.json"), "--state-interval", "1"]
        place = ["--port", str(self._port), "--chain-id", str(self.chain_id), "--accounts", "1"]
        self._shell = subprocess.Popen(
            [
                "sh",
                "-c",
                _UNTIL_INPUT_ENDS,
                str(log_path),
                str(tool("anvil")),
                *place,
                *state,
                *self._options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._shell.stdout is not None
        self.pid = int(self._shell.stdout.readline())
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            log = log_path.read_text()
            if found := re.search(r"Listening on 127\.0\.0\.1:(\d+)\n", log):
                self._port = int(found[1])
                return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"anvil did not start: {log[-500:]}")

    def kill(self) -> None:
        """As a power cut would end it."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        assert self._shell.stdin is not None and self._shell.stdout is not None
        self._shell.stdin.close()
        self._shell.stdout.close()
        self._shell.wait(10)

    def ask(self, method: str, *params: object) -> object:
        return self._rpc.call(method, *params)


class AnvilChain(Chain):
    """anvil has no faucet of its own."""

    def faucet(self, address: str) -> bool:
        if self.balance(address) < FUNDS_WEI // 10:
            Rpc(self.url, 10).call("anvil_setBalance", address, hex(FUNDS_WEI))
        return True
