"""Follows a swarm without taking part: no model, no registration, nothing announced.

What it hears goes into the journal of a home of its own, where the dashboard reads it as it reads a peer's.
"""

import logging
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from swarm import PROTOCOL
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import load_or_create
from swarm.journal.journal import Journal
from swarm.journal.latest import Latest
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.round.founding import Membership, enter, find_recipe
from swarm.round.home import Home
from swarm.round.presence import BEAT_S, SLOT
from swarm.round.records import LiveNote
from swarm.round.wire import RecordRefused, read_note

logger = logging.getLogger(__name__)

RETRY_S = 0.5
"""Until the recipe is here; without a pause a network that refuses would be asked without end."""


class Onlooker:
    """Open it as a context; a thread of its own listens until the end of the block."""

    def __init__(self, invite: Invite, folder: Path) -> None:
        self._invite = invite
        self._folder = folder
        self._stack = ExitStack()
        self._stopping = threading.Event()

    def __enter__(self) -> "Onlooker":
        """Raises SwarmError where the swarm's chain cannot be reached, or the home belongs to another swarm."""
        with ExitStack() as stack:
            home = Home(self._folder)
            stack.callback(home.close)
            identity = load_or_create(home.key_file)
            self._journal = Journal(home.journal_file)
            stack.callback(self._journal.close)
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
            thread = threading.Thread(target=self._listen, args=(self._membership,), name="onlooker", daemon=True)
            thread.start()
            stack.callback(thread.join, 15)
            stack.callback(self._stopping.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _listen(self, membership: Membership) -> None:
        knows_recipe = False
        while not self._stopping.wait(BEAT_S if knows_recipe else RETRY_S):
            try:
                self._emit("peers", peers=self._live(), other_versions=[])
                if not knows_recipe:
                    recipe = find_recipe(membership, self._network, self._journal, timeout_s=BEAT_S)
                    self._journal.put("recipe", recipe.canonical().decode())
                    knows_recipe = True
            except (SwarmError, OSError, RuntimeError) as error:
                logger.warning("the swarm was not heard, which is tried again: %s", error)

    def _live(self) -> dict[str, dict[str, object]]:
        """Who says to be here, as the event `peers` has it."""
        now, here = time.time(), {}
        for peer_id, said in self._network.read(SLOT).items():
            try:
                note = read_note(LiveNote, said.value)
            except RecordRefused:
                continue
            if said.expires > now and note.protocol == PROTOCOL and not note.leaving:
                here[peer_id] = {
                    "name": note.name,
                    "model": note.model,
                    "device": note.device,
                    "tokens_per_s": note.tokens_per_s,
                }
        return here
