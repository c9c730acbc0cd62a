"""The libp2p daemon (p2pd) of this peer: started, watched and ended.

Promise: no p2pd outlives the process that started it, not even when that is killed with -9, and a Ctrl-C in the
terminal does not cut the network before the peer has said goodbye. hivemind's log lines never reach the terminal.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import hivemind
from hivemind.p2p import P2P
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.logging import use_hivemind_log_handler

from swarm.errors import SwarmError
from swarm.network.reach import Reach

_log = logging.getLogger(__name__)

_STARTUP_TIMEOUT_S = 60.0
_TERMINATE_TIMEOUT_S = 2.0
_START_TRIES = 3
_RELAY_BUFFER_BYTES = 128 * 1024  # per relayed connection; p2pd's own 16 MiB would let strangers fill the memory

# Runs in place of p2pd for a few milliseconds. A session of its own keeps the terminal's Ctrl-C away. On Linux the
# kernel kills p2pd when the parent is gone; elsewhere a child looks after the parent twice a second.
_LAUNCHER = """
import os, sys
parent, how, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
os.setsid()
if how == "prctl":
    import ctypes
    if ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0) != 0:
        how = "watch"
if how == "watch" and os.fork() == 0:
    import signal, time
    daemon = os.getppid()
    os.closerange(0, 256)
    while os.getppid() == daemon:
        try:
            os.kill(parent, 0)
        except OSError:
            os.kill(daemon, signal.SIGKILL)
            break
        time.sleep(0.5)
    os._exit(0)
if os.getppid() != parent:
    os._exit(1)
os.execv(arguments[0], arguments)
"""


class _Forward(logging.Handler):
    """Hands hivemind's log lines to our own logger as details, since most are about other peers' failures."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.debug("%s: %s", record.name, record.getMessage())


def quiet_hivemind() -> None:
    """Take hivemind's log lines off the terminal; they are debug lines of this module's logger instead."""
    use_hivemind_log_handler("nowhere")
    logger = logging.getLogger(hivemind.__name__)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    if not any(isinstance(handler, _Forward) for handler in logger.handlers):
        logger.addHandler(_Forward())


class Daemon(P2P):
    """hivemind's P2P with a p2pd that dies with this process and is not in its terminal session."""

    @staticmethod
    def _make_process_args(*args: Any, **kwargs: Any) -> list[str]:
        how = "prctl" if sys.platform == "linux" else "watch"
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), how]
        # p2pd looks for relays for three minutes when it has fewer than four; those that were named are enough.
        own = {"relayDiscovery": "trustedRelays" not in kwargs, "relayBufferSize": _RELAY_BUFFER_BYTES}
        return launcher + P2P._make_process_args(*args, **kwargs, **own)

    @property
    def pid(self) -> int:
        """The process id of p2pd."""
        return int(self._child.pid)

    async def wait(self) -> None:
        """Return when p2pd has ended."""
        await self._child.wait()

    async def shutdown(self) -> None:
        """End p2pd, by force if it does not listen within two seconds."""
        self._terminate()
        if self._child is None:
            return
        try:
            await asyncio.wait_for(self._child.wait(), _TERMINATE_TIMEOUT_S)
        except TimeoutError:
            with suppress(ProcessLookupError):  # it ended a moment ago
                self._child.kill()
            await self._child.wait()


def free_port(host: str) -> int:
    """A TCP port on which nothing listens at this moment."""
    with _bound(host, 0) as probe:
        return int(probe.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Raises SwarmError if `port` is taken on `host`, which p2pd itself would not notice."""
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SwarmError(
                f"port {port} on {host} is used by another program; stop that or choose another port (0 means any)"
            ) from None
        raise SwarmError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another host or port"
        ) from None


async def start_daemon(key_file: Path, reach: Reach) -> tuple[Daemon, int]:
    """Start p2pd with the identity in `key_file`; the port on which it listens is returned with it.

    A peer that other machines are to reach asks its router for a port, learns from others whether it can be reached,
    punches holes into NATs, and looks for relays if it has to; with `reach.relays` it uses those from the start.

    Raises:
        SwarmError: the port is taken, or p2pd does not start; it says which.
    """
    quiet_hivemind()
    for attempt in range(_START_TRIES):
        check_port(reach.host, reach.port)
        chosen = reach.port or free_port(reach.host)
        try:
            daemon = await Daemon.create(
                host_maddrs=reach.listened(chosen),
                announce_maddrs=reach.announced(chosen),
                trusted_relays=reach.relays,
                force_reachability=reach.reachability,
                identity_path=str(key_file),
                check_if_identity_free=False,
                startup_timeout=_STARTUP_TIMEOUT_S,
                nat_port_map=reach.outside,
                auto_nat=reach.outside,  # brings hole punching with it
                use_auto_relay=reach.outside,
            )
        except (P2PDaemonError, OSError, asyncio.IncompleteReadError) as error:
            if attempt + 1 == _START_TRIES:
                raise SwarmError(
                    f"the libp2p daemon does not start: {error}; is hivemind installed for this machine?"
                ) from error
            _log.warning("the libp2p daemon did not start, trying again: %s", error)
            continue
        return daemon, chosen
    raise AssertionError("unreachable")


def kill_now(pid: int) -> None:
    """Kill a p2pd of ours that could not be ended in time."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)  # with SO_REUSEADDR two sockets may bind, but only one may listen
    except OSError:
        probe.close()
        raise
    return probe
