"""Settles the epochs of a running swarm, beside the rounds and without ever holding them up."""

import logging
import threading
import time
from collections.abc import Collection

from swarm.chain.outbox import Outbox
from swarm.chain.registry import Registry
from swarm.chain.settlements import Attestation, Settlement, Settlements
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import Identity, digest
from swarm.journal.journal import Journal
from swarm.network.blobs import BlobUnavailable
from swarm.network.node import Network
from swarm.recipe.schema import Recipe
from swarm.round.clock import Clock
from swarm.round.owners import owners_of
from swarm.settlement.compute import RecordMissing, StatementRefused
from swarm.settlement.counting import Counting
from swarm.settlement.documents import SettledNote
from swarm.settlement.epochs import Epochs
from swarm.settlement.papers import LIFETIME_S, Papers
from swarm.settlement.recomputation import Recomputation
from swarm.settlement.seeds import Seeds

logger = logging.getLogger(__name__)

POLL_S = 1.0
STOP_S = 15.0
EAGER_TURNS = 8
"""Proposers' turns in which an epoch is looked at every POLL_S."""
_MAX_PAUSE_S = 30.0


class Settler:
    """One peer's part in settling. Everything it does is in a thread of its own."""

    def __init__(
        self,
        *,
        identity: Identity,
        swarm: str,
        recipe: Recipe,
        clock: Clock,
        registry: Registry,
        network: Network,
        journal: Journal,
        outbox: Outbox,
        emit: Emitter,
    ) -> None:
        """Raises ChainUnavailable where the swarm's terms cannot be read."""
        terms = registry.terms()
        assert terms.epoch_seconds is not None, "a registry always has one"
        self._identity = identity
        self._journal = journal
        self._outbox = outbox
        self._emit = emit
        self._clock = clock
        self._epochs = Epochs(clock, terms.epoch_seconds)
        self._guardian = terms.guardian
        # so that what was posted is followed through its challenge window, however short
        self._slow_s = min(_MAX_PAUSE_S, max(POLL_S, min(self._epochs.term_s, terms.challenge_seconds / 10)))
        self._chain = Settlements(registry)
        self._papers = Papers(network, journal, swarm, fetch_s=max(5.0, self._epochs.term_s))
        self._seeds = Seeds(registry.chain, swarm, clock, journal)
        self._recomputation = Recomputation(
            swarm=swarm,
            recipe=recipe,
            epochs=self._epochs,
            journal=journal,
            papers=self._papers,
            chain=self._chain,
            seed_of=self._seeds.of,
            owners=owners_of(registry, clock),
        )
        self._counting: Counting | None = None
        self._posted: Settlement | None = None
        self._watched: dict[int, str] = {}
        self._checked_in = -1
        self._offered: tuple[int, float] = (-1, 0.0)
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is in flight has its own deadlines."""
        self._stop.set()
        self._thread.join(STOP_S)

    def _run(self) -> None:
        pause_s = POLL_S
        while not self._stop.wait(pause_s):
            try:
                now = time.time()
                self._step(now)
                pause_s = self._pause_s(now)
                if self._away:
                    self._away = False
                    self._emit("settlement", epoch=None, state="resumed", what="settling goes on")
            except SwarmError as error:
                pause_s = min(_MAX_PAUSE_S, 2 * pause_s)
                if not self._away:
                    self._away = True
                    self._emit("settlement", epoch=None, state="waiting", what=f"settling waits: {error}")
            except Exception:  # a bug here must not end the training; it is logged as the bug it is
                pause_s = min(_MAX_PAUSE_S, 2 * pause_s)
                logger.exception("settling failed, and is tried again")

    def _step(self, now: float) -> None:
        self._check_in(now)
        self._watch()
        epoch = self._epochs.due(now)
        if epoch < 0:
            return
        if self._counting is None or self._counting.epoch < epoch:
            self._give_up()
            self._counting = self._open(epoch)
            self._posted = None
        if self._posted is None:
            posted = self._chain.of(epoch)
            if posted is None:
                self._counting.step(now)
            else:
                self._judge(self._counting, posted)
                self._posted = posted

    def _pause_s(self, now: float) -> float:
        """Short while an epoch is being settled, longer where nothing but a late vote or a freeze can come."""
        counting = self._counting
        if counting and self._posted is None and self._epochs.turn(counting.epoch, now) < EAGER_TURNS:
            return POLL_S
        until_next = self._epochs.counted_from(self._epochs.due(now) + 1) - now
        return min(self._slow_s, max(POLL_S, until_next))

    def _open(self, epoch: int) -> Counting:
        return Counting(
            epoch,
            identity=self._identity,
            epochs=self._epochs,
            journal=self._journal,
            papers=self._papers,
            chain=self._chain,
            recomputation=self._recomputation,
            seed=digest("epoch seed", self._seeds.of(self._epochs.rounds(epoch + 1, epoch + 1).start)),
            post=self._post,
            emit=self._emit,
        )

    def _give_up(self) -> None:
        counting = self._counting
        if counting is None or self._posted is not None:
            return
        votes = sorted((len(given) for given in counting.votes().values()), reverse=True)
        if votes:
            active, needed = self._chain.active_count(counting.epoch), self._chain.quorum(counting.epoch)
            said = ", ".join(map(str, votes))
            self._say(
                counting.epoch,
                "unsettled",
                f"epoch {counting.epoch} is not settled: of {active} active peers {said} sign the same, {needed} must; "
                f"its points come with the next epoch",
            )

    def _judge(self, counting: Counting, posted: Settlement) -> None:
        """Tell whether a settlement on the chain is what this peer finds, and do what can be done if it is not."""
        epoch = posted.epoch
        self._watched[epoch] = "posted"
        if counting.result is not None and counting.result.outcome == posted.outcome:
            self._say(epoch, "posted", f"epoch {epoch} is on the chain, as this peer signed it")
            return
        try:
            counting.examine(posted)
            self._say(epoch, "posted", f"epoch {epoch} is on the chain, and the records give the same")
        except (BlobUnavailable, RecordMissing) as error:
            self._say(epoch, "unchecked", f"epoch {epoch} is on the chain and could not be checked: {error}")
        except StatementRefused as error:
            self._say(epoch, "false", f"the settlement of epoch {epoch} on the chain is false: {error}")
            self._recomputation.reject(posted, error)
            counting.vote_for_own()
            self._watched[epoch] = "false"

    def _oppose(self, counting: Counting, epoch: int) -> None:
        """Freeze a false settlement, by the dissent of enough peers, or as the guardian."""
        posted = self._chain.of(epoch)
        if posted is None:
            return
        dissent = [vote for outcome, votes in counting.votes().items() if outcome != posted.outcome for vote in votes]
        if self._identity.address == self._guardian:
            self._outbox.put(f"freeze/{epoch}", self._chain.freeze(epoch), self._epochs.given_up(epoch))
        elif len(dissent) > self._chain.active_count(epoch) - self._chain.quorum(epoch):
            self._outbox.put(
                f"freeze/{epoch}", self._chain.freeze_by_dissent(epoch, dissent), self._epochs.given_up(epoch)
            )

    def _watch(self) -> None:
        """Follow what was posted until it is final or frozen."""
        for epoch, known in list(self._watched.items()):
            state = self._chain.state(epoch)
            if state == "pending":
                if known == "false" and self._counting is not None and self._counting.epoch == epoch:
                    self._oppose(self._counting, epoch)
                continue
            del self._watched[epoch]
            if state == "frozen":
                self._say(
                    epoch,
                    "frozen",
                    f"the settlement of epoch {epoch} is frozen, because peers do not agree on it: it pays nobody, "
                    f"and its points come with the next epoch",
                )
            elif known == "false":
                self._say(
                    epoch, "false", f"the false settlement of epoch {epoch} became final; this peer does not sign on"
                )
            else:
                self._say(epoch, state, f"the settlement of epoch {epoch} is {state}")
        self._offer()

    def _offer(self) -> None:
        """Give the newest settlement to newcomers, again and again, since announcements end."""
        posted = self._posted
        if posted is None:
            return
        offered, at = self._offered
        blob = self._journal.paper(posted.outcome.data_hash.hex())
        if blob is not None and (offered != posted.epoch or time.monotonic() - at > LIFETIME_S / 3):
            note = SettledNote(epoch=posted.epoch, data_hash=posted.outcome.data_hash.hex(), size=len(blob))
            self._papers.offer_settled(note, blob)
            self._offered = (posted.epoch, time.monotonic())

    def _check_in(self, now: float) -> None:
        """Keep a say in epochs to come, where no settlement with this peer's signature did."""
        current = int((now - self._clock.genesis) // self._epochs.epoch_s)
        if current > self._checked_in:
            if not self._chain.active(current + 1, [self._identity.peer_id]):
                self._outbox.put(f"check-in/{current}", self._chain.check_in(), self._epochs.end(current))
            self._checked_in = current

    def _post(self, epoch: int, votes: Collection[Attestation]) -> None:
        self._outbox.put(f"settlement/{epoch}", self._chain.post(epoch, votes), self._epochs.given_up(epoch))

    def _say(self, epoch: int, state: str, what: str) -> None:
        self._emit("settlement", epoch=epoch, state=state, what=what)
