"""The network of a peer, seen from ordinary code: blocking calls, each with a deadline.

Promise: one thread with one event loop does all the work, so callers need no asyncio; no other peer can make a call
hang or raise anything but what is declared here (any call may raise `NetworkStalled` or `NetworkClosed`, which are of
this machine); without any other peer everything works, alone; a p2pd that dies is started again with the same identity
and port; after `close` (or the death of this process) no p2pd is left.
"""

import asyncio
import atexit
import concurrent.futures
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError

from swarm.errors import SwarmError
from swarm.identity.key import Identity
from swarm.network.addresses import check_address, well_formed, worth_telling
from swarm.network.announcements import Announcement
from swarm.network.blobs import DEFAULT_QUOTA_BYTES, BlobRef, BlobStore
from swarm.network.board import Board
from swarm.network.daemon import Daemon, kill_now, start_daemon
from swarm.network.dht import SwarmNode
from swarm.network.dialback import CALL_S, Answer, DialBack
from swarm.network.equivocation import Proof, Witness
from swarm.network.fetching import Fetcher
from swarm.network.meeting import CONNECT_TIMEOUT_S, Meeting
from swarm.network.members import Members
from swarm.network.protocol import SwarmProtocol
from swarm.network.reach import Reach
from swarm.network.serving import BlobService, UploadLimits
from swarm.network.traffic import Queues, Traffic
from swarm.network.validation import AnnouncementValidator

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_TICK_S = 0.5
_ADDRESSES_S = 5.0
_RELAY_WAIT_S = 15.0
_GRACE_S = 2.0
_STALL_S = 30.0
"""How long after its deadline a call waits for the network's thread, which an overloaded machine may not let run."""
_ANNOUNCE_WAIT_S = 2.0


class NetworkStalled(SwarmError, TimeoutError):
    """The network's thread did not get to a call; the next one may go through."""


class NetworkClosed(SwarmError, ConnectionError):
    """The network of this peer was closed before or during a call."""


class Network:
    """What a peer says, hears, gives and gets. Make it with `Network.start`."""

    peer_id: str
    addresses: list[str]
    _launch = staticmethod(start_daemon)
    _membership = Members

    @classmethod
    def start(
        cls,
        identity: Identity,
        key_file: Path,
        swarm_id: str,
        *,
        blob_dir: Path,
        is_member: Callable[[str], bool],
        bootstrap: Sequence[str] = (),
        fallbacks: Sequence[Sequence[str]] = (),
        reach: Reach | None = None,
        timeout_s: float = 60,
        upload_limits: UploadLimits | None = None,
        blob_quota_bytes: int = DEFAULT_QUOTA_BYTES,
    ) -> "Network":
        """Start p2pd and join the swarm. Without a reachable bootstrap the peer is alone, which is logged, not raised.

        Args:
            bootstrap: multiaddrs with peer ids; one that is malformed is an error.
            fallbacks: more of them, group after group, for when nobody before answers; what is malformed is left out.

        Raises:
            SwarmError: an address is malformed, the port is taken, or p2pd does not start within `timeout_s` seconds.
        """
        for address in bootstrap:
            check_address(address)
        reach = reach or Reach()
        reach.check(identity.peer_id)
        network = cls(identity, key_file, swarm_id, reach, blob_dir, blob_quota_bytes)
        limits = upload_limits or UploadLimits()
        try:
            groups = [list(bootstrap), *map(well_formed, fallbacks)]
            network._call(network._start(is_member, groups, limits, timeout_s), timeout_s + _STALL_S)
        except BaseException:
            network.close()
            raise
        return network

    def __init__(
        self,
        identity: Identity,
        key_file: Path,
        swarm_id: str,
        reach: Reach,
        blob_dir: Path,
        blob_quota_bytes: int,
    ) -> None:
        self.peer_id = identity.peer_id
        self.addresses = []
        self._identity, self._key_file, self._swarm_id = identity, key_file, swarm_id
        self._reach = reach
        self._refused: Counter[str] = Counter()
        self._traffic = Traffic()
        self._witness = Witness()
        self._store = BlobStore(blob_dir, blob_quota_bytes)
        self._tasks: list[asyncio.Task[None]] = []
        self._daemon: Daemon | None = None
        self._closing = False
        self._close_lock = threading.Lock()
        self._loop = self._run_loop()
        atexit.register(self.close)

    def _run_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(_log_exception)
        self._thread = threading.Thread(target=loop.run_forever, name="network", daemon=True)
        self._thread.start()
        return loop

    def announce(self, slot: str, value: bytes, lifetime_s: float) -> Announcement:
        """Say `value` (up to 1 KB) in `slot` for `lifetime_s` seconds (up to an hour).

        Returns after at most two seconds; it is kept and brought to others as they appear. A second announcement in
        a slot replaces the first and lives at least as long.

        Raises:
            ValueError: slot, value or lifetime is out of bounds.
        """
        return self._call(self._announce(slot, value, lifetime_s), _ANNOUNCE_WAIT_S + _STALL_S)

    def read(self, slot: str, timeout_s: float = 10) -> dict[str, Announcement]:
        """Everything that members have said in `slot` and that has not expired, by peer id, own words included.

        Each entry is verified. What cannot be asked within `timeout_s` seconds is missing, and nothing is raised.
        """
        return self._call(self._read(slot, timeout_s), timeout_s + _STALL_S)

    def put(self, data: bytes) -> BlobRef:
        """Keep a blob and serve it to others. Raises ValueError above 64 MiB, OSError if the disk refuses."""
        return self._store.put(data)

    def get(self, ref: BlobRef) -> bytes | None:
        """The blob if it is held here."""
        return self._store.get(ref)

    def fetch(self, ref: BlobRef, providers: Sequence[str], timeout_s: float) -> bytes:
        """The blob, from here or from the first of `providers` (peer ids) that really has it; it is kept and served on.

        Raises:
            BlobUnavailable: it did not arrive within `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        return self._call(self._fetcher.fetch(ref, providers, deadline), timeout_s + _STALL_S)

    def fetch_many(self, wanted: Mapping[BlobRef, Sequence[str]], timeout_s: float) -> dict[BlobRef, bytes]:
        """All blobs that arrive within `timeout_s` seconds, several at once; what did not arrive is absent."""
        deadline = time.monotonic() + timeout_s
        return self._call(self._fetcher.fetch_many(wanted, deadline), timeout_s + _STALL_S)

    def equivocations(self, number: int) -> list[Proof]:
        """The proofs, about any writer, that two different things were announced in one slot of a round."""
        return self._witness.proofs(number)

    def accuse(self, proof: Proof) -> None:
        """Add a proof that came from elsewhere, with its signatures checked."""
        self._witness.keep(proof)

    def connect(self, addresses: Sequence[str], timeout_s: float) -> bool:
        """Try to reach peers at these multiaddrs; they are also tried again later whenever this peer is alone.

        Returns whether any peer of this swarm is known now. Raises SwarmError for a malformed address.
        """
        for address in addresses:
            check_address(address)
        return self._call(self._connect(list(addresses), timeout_s), timeout_s + _STALL_S)

    def dial_back(self, peer_id: str, port: int) -> Answer:
        """What the peer `peer_id` says when it is asked to dial this machine's TCP port, and its clock.

        Raises:
            TimeoutError, OSError, Refused: it gave no answer, or none that makes sense.
        """
        asking = self._dial_back.ask(self._p2p, PeerID.from_base58(peer_id), port)
        return self._call(asking, CALL_S + _STALL_S)

    @property
    def alone(self) -> bool:
        """Whether no other peer is known at the moment. Everything works alone, and others may come."""
        return not self._node.peers()

    def peers(self) -> list[str]:
        """The ids of the peers in the routing table, which in a small swarm is everybody who is alive."""
        return [str(peer.to_base58()) for peer in self._node.peers()]

    def refused(self) -> dict[str, int]:
        """How many records, requests and answers were refused since start, by reason."""
        return dict(self._refused)

    def traffic(self) -> Traffic:
        """Bytes and counts since start."""
        return replace(self._traffic)

    def queues(self) -> Queues:
        """What is under way now."""
        return self._call(self._queues(), _STALL_S)

    def close(self, timeout_s: float = 10) -> None:
        """End p2pd and the thread. May be called twice, and from any thread but the network's own."""
        with self._close_lock:
            if self._closing:
                return
            self._closing = True
            atexit.unregister(self.close)
            try:
                asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout_s)
            except concurrent.futures.TimeoutError:
                _log.warning("the network did not close within %.0f s; killing p2pd", timeout_s)
            finally:
                daemon = self._daemon
                if daemon is not None and daemon._child is not None and daemon._child.returncode is None:
                    kill_now(daemon.pid)
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(timeout_s)
                if not self._thread.is_alive():
                    self._loop.close()

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What follows runs on the loop.

    async def _start(
        self, is_member: Callable[[str], bool], bootstrap: list[list[str]], limits: UploadLimits, timeout_s: float
    ) -> None:
        started = time.monotonic()
        self._members = self._membership(is_member, self.peer_id)
        validator = AnnouncementValidator(self._swarm_id, self._refused, self._witness)
        self._protocol_class = SwarmProtocol.bound_to(validator, self._members, self._traffic, self._swarm_id)
        service_class = BlobService.bound_to(self._protocol_class.namespace)
        self._service = service_class(self._store, self._members, self._traffic, self._refused, limits)
        self._dial_back = DialBack.bound_to(self._protocol_class.namespace)()
        self._fetcher = Fetcher(lambda: self._p2p, service_class, self._store, self._traffic, self._refused)
        await self._start_daemon()
        self._board = Board(self._identity, self._swarm_id, self._node)
        self._meeting = Meeting(self._node, bootstrap)
        known = sum(map(len, bootstrap))
        if known and not await self._meeting.again(timeout_s - (time.monotonic() - started)):
            _log.warning("none of %d bootstraps answers: alone for now, trying again", known)
        if self._reach.relays:
            await self._wait_for_relay(min(_RELAY_WAIT_S, timeout_s - (time.monotonic() - started)))
        jobs = (self._watch_daemon, self._keep_publishing, self._keep_addresses, self._meeting.keep_on)
        self._tasks = [asyncio.ensure_future(job()) for job in jobs]

    async def _start_daemon(self) -> None:
        daemon, port = await self._launch(self._key_file, self._reach)
        self._daemon, self._reach = daemon, replace(self._reach, port=port)
        if daemon.peer_id.to_base58() != self.peer_id:
            raise SwarmError(
                f"the key file {self._key_file} belongs to another peer than {self.peer_id}; give the right one"
            )
        self._p2p: P2P = daemon
        node = await SwarmNode.start(daemon, self._protocol_class)
        await self._service.serve_on(daemon)
        await self._dial_back.serve_on(daemon)
        self._node = node
        told = self._reach.announced(port) or self._reach.listened(port)
        self.addresses = [f"{address}/p2p/{self.peer_id}" for address in told]
        await self._look_at_addresses()

    async def _look_at_addresses(self) -> None:
        """What p2pd thinks that others can dial, unless this peer was told what to announce."""
        if self._reach.announced(self._reach.port):
            return
        try:
            seen = await asyncio.wait_for(self._p2p.get_visible_maddrs(latest=True), CONNECT_TIMEOUT_S)
        except (P2PDaemonError, OSError, EOFError, ValueError, TimeoutError) as error:  # ValueError: none yet
            _log.debug("own addresses are not known: %r", error)
            return
        self.addresses = worth_telling([str(address) for address in seen])

    async def _wait_for_relay(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not any("/p2p-circuit" in address for address in self.addresses):
            if time.monotonic() > deadline:
                _log.warning("no relay took this peer in within %.0f s; still trying", timeout_s)
                return
            await asyncio.sleep(_TICK_S)
            await self._look_at_addresses()

    async def _keep_addresses(self) -> None:
        """They change when a router maps a port, or a relay is found or lost."""
        while self._reach.outside:
            await asyncio.sleep(_ADDRESSES_S)
            await self._look_at_addresses()

    async def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "_members"):
            self._members.close()
        if self._daemon is not None:
            await self._daemon.shutdown()

    async def _stop(self) -> None:
        await self._leave()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=1.0) if others else None

    async def _announce(self, slot: str, value: bytes, lifetime_s: float) -> Announcement:
        sending = asyncio.ensure_future(self._board.announce(slot, value, lifetime_s))
        await asyncio.wait([sending], timeout=_ANNOUNCE_WAIT_S)
        if sending.done():
            return sending.result()
        return self._board.latest(slot)

    async def _read(self, slot: str, timeout_s: float) -> dict[str, Announcement]:
        deadline = time.monotonic() + timeout_s
        found: dict[str, Announcement] = {}
        await self._node.collect(self._board.keys(slot), found, timeout_s)
        members = await self._members.those_of(found, max(0.2, deadline - time.monotonic()))
        if len(members) < len(found):
            self._refused["not a member"] += len(found) - len(members)
        now = time.time()
        return {peer: said for peer, said in found.items() if peer in members and said.expires > now}

    async def _queues(self) -> Queues:
        records = sum(len(held.value) for _, held in self._node.protocol.storage.items())
        return Queues(self._service.uploads(), self._fetcher.fetches, self._members.questions(), records)

    async def _connect(self, addresses: list[str], timeout_s: float) -> bool:
        self._meeting.remember(addresses)
        reached = await self._meeting.join(addresses, timeout_s)
        if reached:
            await asyncio.wait([asyncio.ensure_future(self._board.publish())], timeout=_GRACE_S / 2)
        return reached or bool(self._node.peers())

    async def _watch_daemon(self) -> None:
        while True:
            daemon = self._daemon
            assert daemon is not None
            await daemon.wait()
            _log.warning("the libp2p daemon ended by itself; starting it again")
            held = self._node.protocol.storage
            await daemon.shutdown()
            pause_s = 0.2
            while True:
                try:
                    await self._start_daemon()
                    break
                except Exception as error:  # noqa: BLE001 - whatever it is, a peer without network must try again
                    _log.warning("the libp2p daemon does not come back, trying again: %r", error)
                    await (self._daemon or daemon).shutdown()  # a half-started one would hold the port
                    await asyncio.sleep(pause_s)
                    pause_s = min(10.0, pause_s * 2)
            self._node.protocol.storage = held
            self._board.adopt(self._node)
            self._meeting.adopt(self._node)
            await self._meeting.again()

    async def _keep_publishing(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                await self._board.publish()
                self._node.protocol.forget_expired()
            except (P2PDaemonError, OSError, EOFError) as error:
                _log.debug("publishing failed: %r", error)
            except Exception:  # noqa: BLE001 - one odd tick must not end them all; it is logged as the bug it is
                _log.exception("publishing failed, and goes on")

    def _call(self, job: Coroutine[Any, Any, _Result], timeout_s: float) -> _Result:
        if self._closing:
            job.close()
            raise NetworkClosed("the network of this peer is closed; start it again")
        future = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            if future.done():  # the job's own
                raise
            raise NetworkStalled(
                f"the network did not answer within {timeout_s:.0f} s; this machine may be overloaded, try again"
            ) from None
        except concurrent.futures.CancelledError:
            raise NetworkClosed("the network of this peer was closed during a call; start it again") from None
        finally:
            future.cancel()


def _log_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _log.debug("in the background: %s", context.get("message"), exc_info=context.get("exception"))
