"""Who is here: signed heartbeats, sent and read by a thread of their own so that training never silences a peer."""

import logging
import threading
import time
from collections.abc import Callable

from swarm import PROTOCOL
from swarm.network.node import Network
from swarm.round.exchange import in_proportion
from swarm.round.records import LiveNote, VersionNote
from swarm.round.wire import RecordRefused, note_bytes, read_note

logger = logging.getLogger(__name__)

BEAT_S = 4.0
FRESH_S = 0.5
LIFETIME_S = 20.0
"""A peer of a small swarm that was silent for this long is not waited for; in a large one it is `in_proportion`."""
LONGEST_LIFETIME_S = 300.0
SKEW_S = 5.0
"""Heartbeats that claim to live longer than those of this swarm and this difference of clocks are not believed."""
SLOT = "live"


class Presence:
    """Sends this peer's heartbeat and keeps the latest of every other."""

    def __init__(
        self, network: Network, note: LiveNote, changed: Callable[[dict[str, LiveNote], set[str]], None]
    ) -> None:
        """`changed` is called, from the heartbeat thread, whenever somebody came or went: with the live peers, and with
        the ids of those who speak another protocol version."""
        self._network = network
        self._changed = changed
        self._lock = threading.Lock()
        self._note = note
        self._live: dict[str, LiveNote] | None = None  # until the first look: being alone is news then
        self._foreign: set[str] = set()
        self._looked = 0.0
        self._seen = 0  # heartbeats at the last look
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        self._beat()
        self._look()
        self._thread.start()

    def live(self) -> dict[str, LiveNote]:
        """The other live peers of this protocol version, by peer id."""
        with self._lock:
            return dict(self._live or {})

    def say(self, *, round: int | None = None, tokens_per_s: float | None = None, leaving: bool = False) -> None:
        """Change what the heartbeat says, and send it now."""
        changes = {"round": round, "tokens_per_s": tokens_per_s}
        update = {key: value for key, value in changes.items() if value is not None}
        with self._lock:
            self._note = self._note.model_copy(update={**update, "leaving": leaving})
        self._beat()

    def fresh(self) -> dict[str, LiveNote]:
        """The live peers as of less than a second ago, in a large swarm a little longer."""
        if time.monotonic() - self._looked > FRESH_S * in_proportion(self._seen):
            self._look()
        return self.live()

    def refresh(self) -> dict[str, LiveNote]:
        """Read the heartbeats now."""
        self._look()
        return self.live()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    @staticmethod
    def _lifetime_s(peers: int) -> float:
        return min(LONGEST_LIFETIME_S, LIFETIME_S * in_proportion(peers))

    def _run(self) -> None:
        while not self._wake.wait(BEAT_S * self._lifetime_s(self._seen) / LIFETIME_S):
            try:
                self._beat()
                self._look()
            except Exception:  # a bug here must not silence the peer for ever; it is logged as the bug it is
                logger.exception("the heartbeat failed, and goes on")

    def _beat(self) -> None:
        with self._lock:
            note = self._note = self._note.model_copy(update={"address": self._network.addresses[0][:200]})
        try:
            self._network.announce(SLOT, note_bytes(note), self._lifetime_s(self._seen))
        except (TimeoutError, OSError, RuntimeError) as error:
            if not self._stopping:
                logger.warning("the heartbeat was not sent, the next one follows in %.0f s: %r", BEAT_S, error)

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            announcements = self._network.read(SLOT)
        except (TimeoutError, OSError, RuntimeError) as error:
            if not self._stopping:
                logger.warning("the heartbeats were not read: %r", error)
            return
        now = time.time()
        self._seen = len(announcements)
        longest_s = self._lifetime_s(2 * self._seen) + SKEW_S
        live: dict[str, LiveNote] = {}
        foreign: set[str] = set()
        for peer_id, announcement in announcements.items():
            if peer_id == self._network.peer_id or not 0 < announcement.expires - now < longest_s:
                continue
            try:
                if read_note(VersionNote, announcement.value).protocol != PROTOCOL:
                    foreign.add(peer_id)
                    continue
                note = read_note(LiveNote, announcement.value)
            except RecordRefused:
                continue
            if not note.leaving:
                live[peer_id] = note
        with self._lock:
            came_or_went = self._live is None or set(live) != set(self._live) or foreign != self._foreign
            self._live, self._foreign = live, foreign
        if came_or_went:
            self._changed(dict(live), set(foreign))
