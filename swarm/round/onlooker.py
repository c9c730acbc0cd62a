"""Follows a swarm without taking part: no model, no registration, nothing announced.

What it hears goes into the journal of a home of its own, where the dashboard reads it as it reads a peer's.
"""

import logging
import sqlite3
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from swarm import PROTOCOL
from swarm.chain.settlements import Settlements
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import load_or_create
from swarm.journal.journal import Journal
from swarm.journal.latest import Latest
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.round.clock import Clock
from swarm.round.exchange import Exchange
from swarm.round.following import Follower
from swarm.round.founding import enter, find_recipe
from swarm.round.home import Home
from swarm.round.presence import BEAT_S, LIFETIME_S, SKEW_S, SLOT
from swarm.round.records import LiveNote
from swarm.round.wire import RecordRefused, read_note
from swarm.settlement.papers import Papers

logger = logging.getLogger(__name__)

LOOK_S = 1.0
PAPER_S = 10.0
"""Between two looks for a new settlement, and to fetch its statement at most."""
MAX_EPOCH = 2**63


class Onlooker:
    """Open it as a context; a thread of its own listens until the end of the block."""

    def __init__(self, invite: Invite, folder: Path) -> None:
        self._invite = invite
        self._folder = folder
        self._stack = ExitStack()
        self._stopping = threading.Event()
        self._told: dict[str, dict[str, object]] | None = None

    def __enter__(self) -> "Onlooker":
        """Raises SwarmError where the swarm's chain cannot be reached, or the home belongs to another swarm."""
        with ExitStack() as stack:
            home = Home(self._folder)
            stack.callback(home.close)
            identity = load_or_create(home.key_file)
            self._journal = Journal(home.journal_file)
            stack.callback(self._journal.close)
            self._journal.put("role", "onlooker")
            self._emit = Emitter(Latest(self._journal), "onlooker")
            self._membership = enter(
                stack,
                home=home.path,
                journal=self._journal,
                identity=identity,
                invite=self._invite,
                recipe=None,
                rpc=None,
                contract=None,
                host="127.0.0.1",
                chain_port=0,
                emit=self._emit,
            )
            self._network = Network.start(
                identity,
                home.key_file,
                self._membership.swarm,
                blob_dir=home.blobs,
                is_member=self._membership.registry.is_registered,
                bootstrap=self._membership.bootstrap,
                fallbacks=self._membership.fallbacks,
            )
            stack.callback(self._network.close)
            thread = threading.Thread(target=self._listen, name="onlooker", daemon=True)
            thread.start()
            stack.callback(thread.join, 15)
            stack.callback(self._stopping.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _listen(self) -> None:
        follower: Follower | None = None
        papers_at = 0.0
        while not self._stopping.wait(LOOK_S):
            try:
                live = self._live()
                self._tell(live)
                if follower is None:
                    follower = self._follower()
                follower.step(live)
                if time.monotonic() >= papers_at:
                    papers_at = time.monotonic() + PAPER_S
                    self._fetch_settled()
            except (SwarmError, OSError, RuntimeError, sqlite3.Error) as error:
                logger.warning("the swarm was not heard, which is tried again: %s", error)
            except Exception:  # a bug here must not leave a page that looks alive; it is logged as the bug it is
                logger.exception("following the swarm failed, and is tried again")

    def _follower(self) -> Follower:
        """Raises SwarmError while no peer gives the recipe."""
        membership = self._membership
        recipe = find_recipe(membership, self._network, self._journal, timeout_s=BEAT_S)
        self._journal.put("recipe", recipe.canonical().decode())
        return Follower(
            chain=membership.chain,
            swarm=membership.swarm,
            recipe=recipe,
            clock=Clock(membership.registry.terms().genesis, recipe.timing),
            exchange=Exchange(self._network, membership.swarm, recipe),
            journal=self._journal,
            emit=self._emit,
        )

    def _fetch_settled(self) -> None:
        """Keep the statement of the newest settlement: it says what everybody has earned, also before we came."""
        posted = Settlements(self._membership.registry).before(MAX_EPOCH)
        if posted is not None:
            papers = Papers(self._network, self._journal, self._membership.swarm, PAPER_S)
            papers.settled(posted.outcome.data_hash.hex())

    def _live(self) -> dict[str, LiveNote]:
        """Who says to be here, and plays by the same protocol."""
        now, here = time.time(), {}
        for peer_id, said in self._network.read(SLOT).items():
            if not 0 < said.expires - now < LIFETIME_S + SKEW_S:
                continue
            try:
                note = read_note(LiveNote, said.value)
            except RecordRefused:
                continue
            if note.protocol == PROTOCOL and not note.leaving:
                here[peer_id] = note
        return here

    def _tell(self, live: dict[str, LiveNote]) -> None:
        """Note who is here, when that has changed: a journal that changes looks alive."""
        here = {
            peer_id: {"name": note.name, "model": note.model, "device": note.device, "tokens_per_s": note.tokens_per_s}
            for peer_id, note in live.items()
        }
        if here != self._told:
            self._told = here
            self._emit("peers", peers=here, other_versions=[])
