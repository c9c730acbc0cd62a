"""The life of one peer: enter the swarm, run rounds, survive what happens, leave."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.judging.calibration import WINDOW, calibrate
from swarm.network.node import Network
from swarm.network.traffic import Traffic
from swarm.round.assigned import keep, last_pairs
from swarm.round.assignment import Assigner
from swarm.round.clock import Clock
from swarm.round.committing import Committer
from swarm.round.driver import Driver
from swarm.round.entrance import Entered, Entrance
from swarm.round.exchange import Exchange
from swarm.round.governance import RecipeWatch
from swarm.round.heldout import measure
from swarm.round.merging import Merger
from swarm.round.openings import spent_by
from swarm.round.options import Options
from swarm.round.owners import owners_if_known
from swarm.round.practice import Practice
from swarm.round.records import decode_openings
from swarm.round.report import Outcome
from swarm.round.schedule import Schedule, Stopped
from swarm.round.seed import round_seed
from swarm.round.summary import summarise_chain, summarise_peer, summarise_swarm
from swarm.round.weights import WeightsExchange
from swarm.settlement.epochs import Epochs
from swarm.training.checkpoint import Snapshot


class Peer:
    """One process with one identity and one model."""

    def __init__(self, options: Options, emit: Emitter, stop: threading.Event) -> None:
        self._options = options
        self._emit = emit
        self._stop = stop

    def run(self) -> dict[str, Any]:
        """Take part until the rounds are done or the peer is stopped, and return the summary of this peer's swarm.

        Raises:
            SwarmError: it could not start, or cannot go on.
            Stopped: it was stopped before its first round.
        """
        started = time.monotonic()
        with ExitStack() as stack:
            entered = Entrance(self._options, self._emit, self._stop, stack).run()
            committer = Committer()
            stack.callback(committer.close)
            rounds = _Rounds(entered, committer, self._options, self._emit, self._stop)
            finished = rounds.play()
            committer.join()
            entered.presence.say(leaving=True)
            summary = _summary(entered, time.monotonic() - started, finished)
            self._emit("finished" if finished else "stopped", summary=summary)
            return summary


class _Rounds:
    """The rounds of one run."""

    def __init__(
        self, entered: Entered, committer: Committer, options: Options, emit: Emitter, stop: threading.Event
    ) -> None:
        self._entered = entered
        self._committer = committer
        self._options = options
        self._emit = emit
        self._stop = stop

    def play(self) -> bool:
        """Rounds until the last, or until stopped. Whether it ended as it was asked to."""
        entered, rounds = self._entered, self._options.rounds
        recipe, me, swarm = entered.recipe, entered.identity.peer_id, entered.membership.swarm
        clock = Clock(entered.membership.registry.terms().genesis, recipe.timing)
        exchange = Exchange(entered.network, swarm, recipe, entered.accuser.accused)
        schedule = Schedule(me, clock, exchange, entered.presence, self._emit, self._stop)
        gains = [report.get("merge_gain") for report in entered.journal.reports()]
        merger = Merger(
            peer_id=me,
            recipe=recipe,
            clock=clock,
            learner=entered.learner,
            network=entered.network,
            gains=[gain for gain in gains if gain is not None],
        )
        practice = Practice(entered.learner, recipe) if self._options.practice and recipe.tasks.practice else None
        driver = Driver(
            peer_id=me,
            swarm=swarm,
            recipe=recipe,
            clock=clock,
            learner=entered.learner,
            exchange=exchange,
            calibration=lambda judge: calibrate(entered.journal.audits_of(judge, WINDOW)),
            emit=self._emit,
            merger=merger,
            practice=practice,
            assigner=self._assigner(clock),
            openings=entered.openings,
            published=entered.common,
            weights=self._weights_exchange(),
            spent=spent_by(recipe, (decode_openings(body) for body in entered.journal.bodies("open"))),
        )
        twin = entered.twin
        waiting = practice.while_waiting if practice is not None else lambda: lambda: False
        recipe_watch = RecipeWatch(entered.membership.registry, recipe.hash(), self._emit)
        last = entered.journal.last_round()
        ordinal = last.ordinal if last else 0
        self._last_ordinal = ordinal + rounds if rounds is not None else None
        if why := merger.why_not:
            self._emit("no_merging", why=why)
        try:
            self._measure(ordinal)
            schedule.gather(self._options.wait_for)
            if caught := merger.catch_up(clock.first_after(time.time())):
                self._emit("caught_up", merged=caught.merged, refused=caught.merge_refused)
            begun = int(entered.journal.get("begun") or -1)
            number = schedule.first(max(begun, last.number) if last else begun)
            while True:
                ordinal += 1
                report = self._play(number, ordinal, schedule, driver)
                if ordinal == self._last_ordinal:
                    break
                if ordinal % recipe.heldout.every == 0:
                    self._measure(ordinal)
                if twin is not None and (played := twin.after_round(report)) is not None:
                    self._committer.start(partial(twin.write, played))
                recipe_watch.look()
                number = schedule.following(number, waiting())
            schedule.leave(number)
            self._measure(ordinal)
        except Stopped:
            return rounds is None
        return True

    def _weights_exchange(self) -> WeightsExchange | None:
        entered = self._entered
        if not entered.recipe.audits.publish_weights:
            return None
        me = entered.identity.peer_id
        return WeightsExchange(peer_id=me, recipe=entered.recipe, learner=entered.learner, network=entered.network)

    def _assigner(self, clock: Clock) -> Assigner:
        registry = self._entered.membership.registry
        epochs = Epochs(clock, registry.terms().epoch_seconds or 1)
        assigner = Assigner(self._entered.recipe, owners_if_known(registry, clock), epochs.epoch_of)
        last = last_pairs(self._entered.journal)
        if last is not None:
            assigner.resume(*last)
        return assigner

    def _play(self, number: int, ordinal: int, schedule: Schedule, driver: Driver) -> dict[str, Any]:
        """The round's report as JSON."""
        entered = self._entered
        self._committer.join()  # the round needs the audits of the one before
        entered.journal.put("begun", str(number))  # killed in it, this peer must not say something else in it later
        schedule.begin(number, ordinal, entered.learner.counters.generated_tokens_per_second)
        started = time.time()
        seed, from_chain = round_seed(entered.membership.chain, entered.membership.swarm, schedule.clock, number)
        self._emit(
            "round",
            round=number,
            ordinal=ordinal,
            of=self._last_ordinal,
            ends=schedule.clock.end(number),
            seed_from_chain=from_chain,
        )
        before = entered.network.traffic()
        with self._kept(ordinal):
            outcome = driver.run(number, ordinal, seed, schedule)
        outcome.report.network = _network_figures(before, entered.network)
        schedule.ended(outcome.published, outcome.missing, outcome.undelivered)
        snapshot, finished = entered.learner.snapshot(), time.time()
        self._committer.start(lambda: self._commit(outcome, snapshot, started, finished, seed))
        return asdict(outcome.report)

    def _commit(self, outcome: Outcome, snapshot: Snapshot, started: float, finished: float, seed: bytes) -> None:
        """Checkpoint first, journal after: a checkpoint that no round names is only clutter."""
        report = outcome.report
        name = f"{report.ordinal:09d}"
        with self._kept(report.ordinal):
            snapshot.write(self._entered.home.checkpoint(name))
            self._entered.journal.commit_round(
                report.number,
                report.ordinal,
                started=started,
                finished=finished,
                seed=seed,
                checkpoint=name,
                report=asdict(report),
                records=outcome.records,
                audits=outcome.audits,
            )
        keep(self._entered.journal, outcome.drawn)
        self._entered.home.forget_checkpoints(name)
        self._emit("round_done", **asdict(report))

    @contextmanager
    def _kept(self, ordinal: int) -> Iterator[None]:
        """A disk that fails inside is said in one sentence."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise SwarmError(
                f"round {ordinal} could not be kept in {self._entered.home.path}: {error}; "
                f"free some disk space and start again, it goes on after round {ordinal - 1}"
            ) from error

    def _measure(self, ordinal: int) -> None:
        self._committer.join()  # so that a measurement never stands for a round that was not kept
        measure(self._entered.journal, self._entered.recipe, self._entered.learner, ordinal, self._emit)


def _network_figures(before: Traffic, network: Network) -> dict[str, int]:
    earlier = asdict(before)
    moved = {kind: count - earlier[kind] for kind, count in asdict(network.traffic()).items()}
    return {**moved, **asdict(network.queues())}


def _summary(entered: Entered, seconds: float, finished: bool) -> dict[str, Any]:
    registry = entered.membership.registry
    peer = summarise_peer(
        entered.journal,
        registry,
        entered.learner,
        peer_id=entered.identity.peer_id,
        name=entered.name,
        address=entered.identity.address,
        finished=finished,
    )
    return summarise_swarm(entered.membership.swarm, summarise_chain(registry), [peer], seconds)
