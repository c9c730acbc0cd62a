"""Peers in one process: the real `Network`, with its DHT node, announcements and blobs, over an in-memory medium.

Promise: what a simulated peer says, checks, stores, asks and serves is the code that runs between machines. Three
things differ, so that a thousand peers fit: they share one event loop, everybody is a member, and a signature that
one of them has verified is not verified again by the others.
"""

import asyncio
import atexit
import concurrent.futures
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from hivemind.p2p import PeerID

from swarm.identity.key import Identity
from swarm.network.daemon import quiet_hivemind
from swarm.network.members import Members
from swarm.network.node import Network
from swarm.network.reach import Reach
from swarm.network.serving import UploadLimits
from swarm.simulate.transport import Line, Medium, MemoryP2P

_START_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 10.0
_BOOTSTRAPS = 3


class Ether:
    """What all peers of a simulated swarm share: a medium, an event loop in a thread, and a folder for their blobs."""

    def __init__(
        self,
        swarm_id: str,
        line: Line | None = None,
        seed: int = 0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """A medium, and a thread for its peers unless they live on a `loop` of the caller, which ends them.

        Args:
            line: what connects a peer with the others, by default without delay.
            seed: of what is lost.
        """
        quiet_hivemind()
        self.swarm_id = swarm_id
        self.medium = Medium(line, seed)
        self.loop = loop or asyncio.new_event_loop()
        self.verified: OrderedDict[Any, Any] = OrderedDict()
        self.bootstrap: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="ether-")
        self._thread = threading.Thread(target=self.loop.run_forever, name="ether", daemon=True)
        if loop is None:
            self._thread.start()

    @property
    def threaded(self) -> bool:
        """Whether the peers live in a thread of the ether's own."""
        return self._thread.is_alive()

    def blob_dir(self, peer_id: str) -> Path:
        return Path(self._folder.name) / peer_id

    def close(self) -> None:
        """End the loop, and with it all peers, and remove their blobs. May be called twice."""
        if self.threaded:
            asyncio.run_coroutine_threadsafe(self._end_all(), self.loop).result(_CLOSE_TIMEOUT_S)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(_CLOSE_TIMEOUT_S)
        self._folder.cleanup()

    @staticmethod
    async def _end_all() -> None:
        for _ in range(10):  # hivemind's searches swallow a cancellation, so once is not enough
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if not tasks or not (await asyncio.wait(tasks, timeout=0.2))[1]:
                return


class _Everybody(Members):
    """All are members."""

    def known(self, peer_id: str) -> bool | None:
        return True


class SimulatedNetwork(Network):
    """One peer of a simulated swarm. Its first peers become the bootstraps of the later ones.

    On a loop of the caller it is used from there: `enter` first, then what `Network` does under each call.
    """

    _membership = _Everybody

    def __init__(self, ether: Ether, identity: Identity, upload_limits: UploadLimits | None = None) -> None:
        self.ether = ether
        self._upload_limits = upload_limits or UploadLimits()
        super().__init__(identity, Path(), ether.swarm_id, Reach(), ether.blob_dir(identity.peer_id), 2**31)
        atexit.unregister(self.close)
        if ether.threaded:
            self._call(self.enter(), _START_TIMEOUT_S)

    async def enter(self) -> None:
        """Appear in the medium and join the swarm."""
        bootstrap = list(self.ether.bootstrap)
        await self._start(lambda _: True, [bootstrap], self._upload_limits, _START_TIMEOUT_S)
        self._protocol_class.validator._verified = self.ether.verified
        if len(bootstrap) < _BOOTSTRAPS:
            self.ether.bootstrap.append(self.addresses[0])

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Leave the medium. May be called twice."""
        with self._close_lock:
            if self._closing:
                return
            self._closing = True
        try:
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(timeout_s)
        except concurrent.futures.TimeoutError:
            pass  # the loop is busy or ended, and nothing outlives it

    def _run_loop(self) -> asyncio.AbstractEventLoop:
        return self.ether.loop

    async def _launch(self, *_: object) -> tuple[MemoryP2P, int]:
        return await MemoryP2P.join(self.ether.medium, PeerID.from_base58(self.peer_id)), 1
