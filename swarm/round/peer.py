"""The life of one peer: enter the swarm, run rounds, survive what happens, leave."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from swarm import PROTOCOL
from swarm.chain.client import ChainUnavailable
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import load_or_create
from swarm.identity.names import name_of
from swarm.journal.journal import Journal
from swarm.judging.calibration import WINDOW, Calibration, calibrate
from swarm.network.daemon import check_port
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import heldout_tasks
from swarm.recipe.verifiers import has_truth, verify
from swarm.round.clock import Clock, next_round
from swarm.round.driver import Driver, Outcome
from swarm.round.exchange import POLL_S, Exchange
from swarm.round.founding import Membership, enter, find_recipe
from swarm.round.home import Home
from swarm.round.patience import Patience
from swarm.round.presence import Presence
from swarm.round.records import LiveNote
from swarm.round.seed import round_seed
from swarm.round.stages import encode_prompt
from swarm.training.learner import Learner
from swarm.training.obtain import obtain

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

WAIT_FOR_S = 180.0
LAST_GOODBYE_S = 10.0


@dataclass(frozen=True)
class Options:
    """What a person may choose about a peer."""

    home: Path
    invite: Invite | None = None
    recipe: Recipe | None = None
    model: str | None = None
    """In place of the recipe's: a path or a hub id."""
    rounds: int | None = None
    """How many rounds this home runs in all; None: until it is stopped."""
    name: str | None = None
    rpc: str | None = None
    contract: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    chain_port: int = 0
    announce_host: str | None = None
    device: str | None = None
    threads: int | None = None
    wait_for: int = 1
    """Peers, this one included, that should be here before the first round starts; waited for at most WAIT_FOR_S."""


class Stopped(Exception):
    """Somebody asked the peer to stop."""


class Peer:
    """One process with one identity and one model."""

    def __init__(self, options: Options, emit: Emitter, stop: threading.Event) -> None:
        self._options = options
        self._emit = emit
        self._stop = stop
        self._patience = Patience()
        self._current = -1
        self._ordinal = 0
        self._partners: set[str] = set()

    def run(self) -> dict[str, Any]:
        """Take part until the rounds are done or the peer is stopped, and return its summary.

        Raises:
            SwarmError: it could not start, or cannot go on.
        """
        with ExitStack() as stack:
            home = Home(self._options.home)
            stack.callback(home.close)
            self._identity = load_or_create(home.key_file)
            self._name = self._options.name or name_of(self._identity.peer_id)
            self._emit.peer = self._name
            journal = Journal(home.journal_file)
            stack.callback(journal.close)
            self._emit("identity", peer_id=self._identity.peer_id, address=self._identity.address, home=str(home.path))
            recipe = self._options.recipe
            model_folder = self._obtain(recipe) if recipe is not None else None
            membership = self._enter(stack, home, journal, recipe)
            network = self._start_network(stack, home, journal, membership)
            if recipe is None:
                self._emit("starting", what="the swarm's recipe", expect_s=5)
                recipe = find_recipe(membership, network, journal)
            journal.put("recipe", recipe.canonical().decode())
            reference = network.put(recipe.canonical())
            learner = self._load(recipe, model_folder or self._obtain(recipe), home, journal)
            self._register(membership)
            self._say_invite(membership, network)
            presence = self._announce(stack, membership, network, recipe, learner, reference.size, journal)
            return self._live(home, journal, membership, network, recipe, learner, presence)

    # Before the first round.

    def _obtain(self, recipe: Recipe) -> Path:
        model = self._options.model or recipe.model.id
        return obtain(model, lambda line: self._emit("starting", what=line))

    def _enter(self, stack: ExitStack, home: Home, journal: Journal, recipe: Recipe | None) -> Membership:
        options = self._options
        membership = enter(
            stack,
            home=home.path,
            journal=journal,
            identity=self._identity,
            invite=options.invite,
            recipe=recipe,
            rpc=options.rpc,
            contract=options.contract,
            host=options.host,
            chain_port=options.chain_port,
            emit=self._emit,
        )
        self._emit(
            "swarm",
            swarm=membership.swarm,
            rpc=membership.chain.url,
            contract=membership.registry.address,
            founded=membership.founded,
        )
        return membership

    def _start_network(self, stack: ExitStack, home: Home, journal: Journal, membership: Membership) -> Network:
        self._emit("starting", what="the network", expect_s=3)
        options = self._options
        network = Network.start(
            self._identity,
            home.key_file,
            membership.swarm,
            blob_dir=home.blobs,
            is_member=membership.registry.is_registered,
            bootstrap=membership.bootstrap,
            host=options.host,
            port=options.port or _last_port(journal, options.host),
            announce_host=options.announce_host,
        )
        stack.callback(network.close)
        journal.put(
            "port", network.addresses[0].split("/tcp/")[1].split("/")[0] if "/tcp/" in network.addresses[0] else "0"
        )
        return network

    def _load(self, recipe: Recipe, folder: Path, home: Home, journal: Journal) -> Learner:
        self._emit("starting", what=f"the model {self._options.model or recipe.model.id}", expect_s=10)
        model = recipe.model.model_copy(update={"id": self._options.model}) if self._options.model else recipe.model
        learner = Learner.load(
            folder,
            model,
            recipe.grpo,
            seed=recipe.heldout.seed % 2**31,
            device=self._options.device,
            threads=self._options.threads,
        )
        last = journal.last_round()
        if last is not None:
            learner.restore(home.checkpoint(last.checkpoint))
            self._emit("resumed", round=last.number, ordinal=last.ordinal)
        self._emit("model", model=learner.name, device=learner.device_name)
        return learner

    def _register(self, membership: Membership) -> None:
        self._emit("starting", what="the registration of this peer on the chain", expect_s=2)
        receipt = membership.registry.register(self._identity)
        self._emit(
            "registered",
            address=self._identity.address,
            gas=receipt.gas_used if receipt else None,
            transaction="0x" + receipt.transaction_hash.hex() if receipt else None,
        )

    def _say_invite(self, membership: Membership, network: Network) -> None:
        invite = Invite(
            chain_rpc=membership.chain.url,
            chain_id=membership.chain.chain_id,
            contract=membership.registry.address,
            bootstrap=tuple(network.addresses[:4]),
        )
        self._emit("invite", invite=invite.encode())

    def _announce(
        self,
        stack: ExitStack,
        membership: Membership,
        network: Network,
        recipe: Recipe,
        learner: Learner,
        recipe_bytes: int,
        journal: Journal,
    ) -> Presence:
        note = LiveNote(
            protocol=PROTOCOL,
            name=self._name[:40],
            model=learner.name[:120],
            device=learner.device_name[:60],
            round=-1,
            tokens_per_s=0.0,
            address=network.addresses[0][:200],
            recipe_bytes=recipe_bytes,
        )

        def changed(live: dict[str, LiveNote]) -> None:
            if live:
                journal.put("addresses", " ".join(sorted(note.address for note in live.values())[:32]))
            here = {
                peer_id: {"name": note.name, "model": note.model, "device": note.device}
                for peer_id, note in live.items()
            }
            self._emit("peers", peers=here, other_versions=sorted(presence.foreign()))

        presence = Presence(network, note, changed)
        stack.callback(presence.stop)
        presence.start()
        return presence

    # Rounds.

    def _live(
        self,
        home: Home,
        journal: Journal,
        membership: Membership,
        network: Network,
        recipe: Recipe,
        learner: Learner,
        presence: Presence,
    ) -> dict[str, Any]:
        clock = Clock(membership.registry.parameters().genesis, recipe.timing)
        exchange = Exchange(network, membership.swarm, recipe)
        driver = Driver(
            peer_id=self._identity.peer_id,
            swarm=membership.swarm,
            recipe=recipe,
            clock=clock,
            learner=learner,
            exchange=exchange,
            calibration=lambda judge: _calibration(journal, judge),
            emit=self._emit,
        )
        last = journal.last_round()
        done = last.ordinal if last else 0
        started = time.time()
        self._measure(journal, recipe, learner, done, final=False)
        try:
            self._wait_for_partners(presence)
            number = self._first_number(clock, exchange, presence, last.number if last else -1)
            while self._options.rounds is None or done < self._options.rounds:
                self._check_stop()
                done += 1
                self._play(number, done, clock, driver, home, journal, membership, learner, presence, exchange)
                if done % recipe.heldout.every == 0 and done != self._options.rounds:
                    self._measure(journal, recipe, learner, done, final=False)
                exchange.say_done(number, time.time())
                if done != self._options.rounds:
                    number = self._next_number(clock, exchange, presence, number)
            self._measure(journal, recipe, learner, done, final=True)
            self._say_goodbye(exchange, presence, number)
            finished = True
        except Stopped:
            finished = self._options.rounds is None
        last = journal.last_round()
        done = last.ordinal if last else 0
        presence.say(leaving=True)
        summary = self._summary(journal, membership, learner, done, time.time() - started, finished)
        self._emit("finished" if finished else "stopped", summary=summary)
        return summary

    def _play(
        self,
        number: int,
        ordinal: int,
        clock: Clock,
        driver: Driver,
        home: Home,
        journal: Journal,
        membership: Membership,
        learner: Learner,
        presence: Presence,
        exchange: Exchange,
    ) -> None:
        self._current, self._ordinal = number, ordinal
        presence.say(round=number, tokens_per_s=round(learner.counters.generated_tokens_per_second, 1))
        started = time.time()
        seed, from_chain = round_seed(membership.chain, membership.swarm, clock, number)
        self._emit(
            "round",
            round=number,
            ordinal=ordinal,
            of=self._options.rounds,
            ends=clock.end(number),
            seed_from_chain=from_chain,
        )
        outcome = driver.run(number, ordinal, seed, lambda: self._expected(presence))
        self._partners = outcome.published - {self._identity.peer_id}
        self._patience.note(ordinal, published=outcome.published, missing=outcome.missing)
        self._commit(home, journal, learner, outcome, started, seed)
        report = asdict(outcome.report)
        self._emit(
            "round_done", **{key: value for key, value in report.items() if key != "update"}, update=report["update"]
        )

    def _commit(
        self, home: Home, journal: Journal, learner: Learner, outcome: Outcome, started: float, seed: bytes
    ) -> None:
        """Checkpoint first, journal after: a checkpoint that no round names is only clutter."""
        report = outcome.report
        name = f"{report.ordinal:09d}"
        learner.save(home.checkpoint(name))
        journal.commit_round(
            report.number,
            report.ordinal,
            started=started,
            finished=time.time(),
            seed=seed,
            checkpoint=name,
            report=asdict(report),
            records=outcome.records,
            audits=outcome.audits,
        )
        home.forget_checkpoints(name)

    def _expected(self, presence: Presence) -> set[str]:
        """The peers to wait for: those who say that they play this round, and those of the last one who are still here."""
        self._check_stop()
        live = presence.live()
        playing = {peer for peer, note in live.items() if note.round == self._current}
        return self._patience.worth_waiting(playing | self._partners & set(live), self._ordinal) | {
            self._identity.peer_id
        }

    def _wait_for_partners(self, presence: Presence) -> None:
        deadline = time.monotonic() + WAIT_FOR_S
        while 1 + len(presence.live()) < self._options.wait_for and time.monotonic() < deadline:
            self._check_stop()
            self._emit("gathering", here=1 + len(presence.live()), of=self._options.wait_for)
            self._stop.wait(1.0)
            presence.refresh()

    def _first_number(self, clock: Clock, exchange: Exchange, presence: Presence, last: int) -> int:
        """Enter the round that the others are in, if its answers can still arrive in time, or the next one."""
        live = presence.refresh()
        playing = sorted(note.round for note in live.values() if note.round > last)
        if not playing:
            return max(last + 1, clock.first_after(time.time()))
        current = playing[len(playing) // 2]
        now = time.time()
        window = clock.timing.answer * clock.timing.round_s
        if clock.start(current) - 5 <= now < clock.start(current) + 0.5 * window:
            return current
        self._partners = {peer for peer, note in live.items() if note.round == current}
        self._current = current
        self._emit("waiting", round=current, stage="next round", until=clock.end(current))
        return self._next_number(clock, exchange, presence, current)

    def _next_number(self, clock: Clock, exchange: Exchange, presence: Presence, current: int) -> int:
        arrived = time.time()
        while True:
            self._check_stop()
            live = presence.refresh()
            finished = {**exchange.done(current), self._identity.peer_id: arrived}
            number = next_round(
                clock,
                current,
                me=self._identity.peer_id,
                expected=self._partners & set(live) | {self._identity.peer_id},
                finished=finished,
                playing={peer: note.round for peer, note in live.items()},
                now=time.time(),
            )
            if number is not None:
                self._sleep_until(clock.start(number))
                return number
            self._stop.wait(POLL_S)

    def _say_goodbye(self, exchange: Exchange, presence: Presence, number: int) -> None:
        """Stay until the others of the last round have what they need from here."""
        deadline = time.monotonic() + LAST_GOODBYE_S
        while time.monotonic() < deadline and not self._stop.is_set():
            if self._partners & set(presence.refresh()) <= set(exchange.done(number)):
                return
            self._stop.wait(POLL_S)

    def _measure(self, journal: Journal, recipe: Recipe, learner: Learner, done: int, *, final: bool) -> None:
        """Held-out accuracy, greedy."""
        if any(ordinal == done for ordinal, _, _ in journal.heldout()):
            return
        tasks = [task for task in heldout_tasks(recipe) if has_truth(recipe, task)]
        if not tasks:
            return
        self._emit("measuring", questions=len(tasks), final=final)
        prompts = [encode_prompt(learner, recipe, answer_prompt(recipe, task)) for task in tasks]
        texts = learner.greedy(prompts, recipe.stages.answer.max_new_tokens)
        correct = sum(verify(recipe, task, text) >= 0.5 for task, text in zip(tasks, texts, strict=True))
        journal.note_heldout(done, time.time(), correct, len(tasks))
        self._emit("heldout", ordinal=done, correct=correct, of=len(tasks))

    def _summary(
        self, journal: Journal, membership: Membership, learner: Learner, done: int, seconds: float, finished: bool
    ) -> dict[str, Any]:
        reports = journal.reports()
        heldout = journal.heldout()
        rate = learner.counters.generated_tokens_per_second
        return {
            "swarm": membership.swarm,
            "rpc": membership.chain.url,
            "contract": membership.registry.address,
            "registered_peers": _or_none(membership.registry.peer_count),
            "seconds": round(seconds, 1),
            "finished": finished,
            "peer": {
                "peer_id": self._identity.peer_id,
                "name": self._name,
                "address": self._identity.address,
                "registered": _or_none(lambda: membership.registry.is_registered(self._identity.peer_id)),
                "model": learner.name,
                "device": learner.device_name,
                "rounds": done,
                "reward": [report["reward"] for report in reports],
                "heldout": _heldout_summary(heldout),
                "rollouts_published": _total(reports, "rollouts_published"),
                "rollouts_fetched": _total(reports, "rollouts_fetched"),
                "critiques": _total(reports, "critiques"),
                "revisions": _total(reports, "revisions"),
                "verdicts": _total(reports, "verdicts"),
                "updates": sum(bool(report["updated"]) for report in reports),
                "generated_tokens": _total(reports, "generated_tokens"),
                "tokens_per_s": round(rate, 1),
                "points": round(sum(report["points"] for report in reports), 6),
            },
        }

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - time.time()) > 0:
            self._check_stop()
            self._stop.wait(min(left, 0.5))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


def _calibration(journal: Journal, judge: str) -> Calibration:
    return calibrate(journal.audits_of(judge, WINDOW))


def _heldout_summary(measured: Sequence[tuple[int, int, int]]) -> dict[str, Any] | None:
    if not measured:
        return None
    first, last = measured[0], measured[-1]
    return {
        "before": round(first[1] / first[2], 4),
        "after": round(last[1] / last[2], 4),
        "n": last[2],
        "curve": [[ordinal, round(correct / count, 4)] for ordinal, correct, count in measured],
    }


def _total(reports: Sequence[dict[str, Any]], key: str) -> int:
    return sum(report[key] for report in reports)


def _last_port(journal: Journal, host: str) -> int:
    """The port of last time while it is free, so that old invites stay true; else 0, any port."""
    port = int(journal.get("port") or 0)
    if port:
        try:
            check_port(host, port)
        except SwarmError:
            return 0
    return port


def _or_none(ask: Callable[[], _T]) -> _T | None:
    """What the chain says, or None while it is away."""
    try:
        return ask()
    except ChainUnavailable as error:
        logger.warning("the chain is away: %s", error)
        return None
