"""The life of one peer: enter the swarm, run rounds, survive what happens, leave."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from swarm import PROTOCOL, __version__
from swarm.chain.outbox import Outbox
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import load_or_create
from swarm.identity.names import name_of
from swarm.journal.journal import Journal
from swarm.journal.latest import Latest
from swarm.judging.calibration import WINDOW, calibrate
from swarm.network.daemon import check_port
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.network.reach import Reach
from swarm.network.traffic import Traffic
from swarm.recipe.schema import Recipe
from swarm.round.accusation import Accuser, reporter
from swarm.round.assigned import keep, last_pairs
from swarm.round.assignment import Assigner
from swarm.round.clock import Clock, lifetime_s
from swarm.round.committing import Committer
from swarm.round.driver import Driver
from swarm.round.exchange import Exchange
from swarm.round.founding import enter, find_recipe
from swarm.round.governance import RecipeWatch
from swarm.round.heldout import measure
from swarm.round.home import Home
from swarm.round.merging import Merger
from swarm.round.openings import Openings, spent_by
from swarm.round.owners import owners_if_known
from swarm.round.peer_cache import PeerCache
from swarm.round.planning import make_plan
from swarm.round.presence import Presence
from swarm.round.records import LiveNote, decode_openings
from swarm.round.report import Outcome
from swarm.round.schedule import Schedule, Stopped
from swarm.round.seed import round_seed
from swarm.round.summary import summarise_chain, summarise_peer, summarise_swarm
from swarm.round.twin import SHARE, SoloTwin
from swarm.round.weights import WeightsExchange
from swarm.settlement.epochs import Epochs
from swarm.settlement.settler import Settler
from swarm.training.checkpoint import Snapshot
from swarm.training.learner import Learner
from swarm.training.obtain import obtain


@dataclass(frozen=True)
class Options:
    """What a person may choose about a peer."""

    home: Path
    invite: Invite | None = None
    recipe: Recipe | None = None
    """None: the swarm's, or for a new swarm the default one."""
    model: str | None = None
    """In place of the recipe's: a path or a hub id."""
    rounds: int | None = None
    """How many rounds to play in this run; None: until it is stopped."""
    name: str | None = None
    rpc: str | None = None
    contract: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    chain_port: int = 0
    announce_host: str | None = None
    announce: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    device: str | None = None
    threads: int | None = None
    sampler: Literal["local", "vllm"] = "local"
    openings: Path | None = None
    """Where this peer is the recipe's author: the file with the sealed answers, which it opens as they are due."""
    wait_for: int = 1
    """Peers, this one included, that should be here before the first round starts."""
    twin: float | None = None
    """Share of this peer's work that its solo twin may take; None: a little where the trained weights are few."""


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
            self._open(stack)
            named = self._options.recipe
            model_folder = self._obtain(named) if named else None
            self._enter(stack, named)
            self._start_network(stack)
            self._recipe = self._membership.recipe or self._find_recipe()
            self._journal.put("recipe", self._recipe.canonical().decode())
            self._openings = self._read_openings()
            self._load(model_folder or self._obtain(self._recipe))
            self._register()
            self._appear(stack)
            self._settle(stack)
            self._committer = Committer()
            stack.callback(self._committer.close)
            finished = self._play_all()
            self._committer.join()
            self._presence.say(leaving=True)
            summary = self._summary(time.monotonic() - started, finished)
            self._emit("finished" if finished else "stopped", summary=summary)
            return summary

    # Before the first round.

    def _open(self, stack: ExitStack) -> None:
        self._home = Home(self._options.home)
        stack.callback(self._home.close)
        self._identity = load_or_create(self._home.key_file)
        self._name = self._options.name or name_of(self._identity.peer_id)
        self._emit.peer = self._name
        self._journal = Journal(self._home.journal_file)
        stack.callback(self._journal.close)
        stack.enter_context(self._emit.also(Latest(self._journal)))
        self._journal.put("peer_id", self._identity.peer_id)
        self._emit(
            "identity", peer_id=self._identity.peer_id, address=self._identity.address, home=str(self._home.path)
        )

    def _read_openings(self) -> Openings | None:
        file = self._options.openings
        return None if file is None else Openings.read(file, self._recipe)

    def _obtain(self, recipe: Recipe) -> Path:
        self._check_stop()
        return obtain(self._options.model or recipe.model.id, lambda line: self._emit("starting", what=line))

    def _enter(self, stack: ExitStack, recipe: Recipe | None) -> None:
        self._check_stop()
        options = self._options
        self._membership = enter(
            stack,
            home=self._home.path,
            journal=self._journal,
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
            "swarm", swarm=self._membership.swarm, founded=self._membership.founded, rpc=self._membership.chain.url
        )

    def _start_network(self, stack: ExitStack) -> None:
        self._check_stop()
        self._emit("starting", what="the network", expect_s=3)
        options = self._options
        self._network = Network.start(
            self._identity,
            self._home.key_file,
            self._membership.swarm,
            blob_dir=self._home.blobs,
            is_member=self._membership.registry.is_registered,
            bootstrap=self._membership.bootstrap,
            fallbacks=self._membership.fallbacks,
            reach=Reach(
                options.host,
                options.port or self._last_port(),
                options.announce_host,
                options.announce,
                options.relays,
            ),
        )
        stack.callback(self._network.close)
        self._journal.put("port", self._network.addresses[0].split("/tcp/")[-1].split("/")[0])

    def _last_port(self) -> int:
        """The port of last time while it is free, so that old invites stay true; else 0, any port."""
        port = int(self._journal.get("port") or 0)
        if port:
            try:
                check_port(self._options.host, port)
            except SwarmError:
                return 0
        return port

    def _find_recipe(self) -> Recipe:
        self._emit("starting", what="the swarm's recipe", expect_s=5)
        return find_recipe(self._membership, self._network, self._journal)

    def _load(self, folder: Path) -> None:
        self._check_stop()
        options, recipe = self._options, self._recipe
        self._emit("starting", what=f"the model {options.model or recipe.model.id}", expect_s=10)
        self._learner = Learner.load(
            folder,
            recipe.model.model_copy(update={"id": options.model or recipe.model.id}),
            recipe.grpo,
            seed=recipe.heldout.seed % 2**31,
            device=options.device,
            threads=options.threads,
            sampler=options.sampler,
        )
        # the recipe's own model is one that everybody can have, until it has learned here
        self._common = {self._learner.fingerprint} if options.model is None else set()
        self._start = self._learner.snapshot() if self._twin_share else None
        last = self._journal.last_round()
        if last is not None:
            self._learner.restore(self._home.checkpoint(last.checkpoint))
            self._emit("resumed", round=last.number, ordinal=last.ordinal)
        self._emit("model", model=self._learner.name, device=self._learner.device_name)
        make_plan(self._journal, recipe, self._learner, self._emit)

    def _register(self) -> None:
        self._check_stop()
        self._emit("starting", what="the registration of this peer on the chain", expect_s=2)
        receipt = self._membership.registry.register(self._identity)
        self._emit("registered", address=self._identity.address, gas=receipt.gas_used if receipt else None)

    def _appear(self, stack: ExitStack) -> None:
        """Become visible to others, and able to invite."""
        network, membership, learner = self._network, self._membership, self._learner
        reference = network.put(self._recipe.canonical())
        note = LiveNote(
            protocol=PROTOCOL,
            version=__version__,
            role="trainer",
            name=self._name[:40],
            model=learner.name[:120],
            device=learner.device_name[:60],
            round=-1,
            tokens_per_s=0.0,
            address=network.addresses[0][:200],
            recipe_bytes=reference.size,
        )
        self._presence = Presence(network, note, self._peers_changed)
        stack.callback(self._presence.stop)
        self._presence.start()
        invite = Invite(
            _as_others_see(membership.chain.url, network.addresses[0]),
            int(membership.swarm.split(":")[0]),
            membership.registry.address,
            tuple(network.addresses[:4]),
        )
        self._emit("invite", invite=invite.encode())

    def _settle(self, stack: ExitStack) -> None:
        """Send what is due to the chain, and settle epochs, beside the rounds."""
        membership = self._membership
        outbox = Outbox(self._journal, membership.chain, self._identity, self._emit)
        stack.callback(outbox.stop)
        self._accuser = Accuser(
            network=self._network,
            swarm=membership.swarm,
            is_member=membership.registry.is_registered,
            journal=self._journal,
            lifetime_s=lifetime_s(self._recipe.timing),
            emit=self._emit,
            report=reporter(membership.registry, outbox),
        )
        settler = Settler(
            identity=self._identity,
            swarm=membership.swarm,
            recipe=self._recipe,
            clock=Clock(membership.registry.terms().genesis, self._recipe.timing),
            registry=membership.registry,
            network=self._network,
            journal=self._journal,
            outbox=outbox,
            emit=self._emit,
        )
        stack.callback(settler.stop)
        outbox.start()
        settler.start()

    def _peers_changed(self, live: dict[str, LiveNote], foreign: set[str]) -> None:
        if live:
            PeerCache(self._journal).add({peer_id: note.address for peer_id, note in live.items()})
        here = {
            peer_id: {"name": note.name, "model": note.model, "device": note.device, "tokens_per_s": note.tokens_per_s}
            for peer_id, note in live.items()
        }
        self._emit("peers", peers=here, other_versions=sorted(foreign))

    # Rounds.

    def _play_all(self) -> bool:
        """Rounds until the last, or until stopped. Whether it ended as it was asked to."""
        recipe, rounds, me = self._recipe, self._options.rounds, self._identity.peer_id
        clock = Clock(self._membership.registry.terms().genesis, recipe.timing)
        exchange = Exchange(self._network, self._membership.swarm, recipe, self._accuser.accused)
        schedule = Schedule(me, clock, exchange, self._presence, self._emit, self._stop)
        gains = [report.get("merge_gain") for report in self._journal.reports()]
        merger = Merger(
            peer_id=me,
            recipe=recipe,
            clock=clock,
            learner=self._learner,
            network=self._network,
            gains=[gain for gain in gains if gain is not None],
        )
        driver = Driver(
            peer_id=me,
            swarm=self._membership.swarm,
            recipe=recipe,
            clock=clock,
            learner=self._learner,
            exchange=exchange,
            calibration=lambda judge: calibrate(self._journal.audits_of(judge, WINDOW)),
            emit=self._emit,
            merger=merger,
            assigner=self._assigner(clock),
            openings=self._openings,
            published=self._common,
            weights=self._weights_exchange(),
            spent=spent_by(recipe, (decode_openings(body) for body in self._journal.bodies("open"))),
        )
        twin = self._solo_twin()
        recipe_watch = RecipeWatch(self._membership.registry, recipe.hash(), self._emit)
        last = self._journal.last_round()
        ordinal = last.ordinal if last else 0
        self._last_ordinal = ordinal + rounds if rounds is not None else None
        try:
            self._measure(ordinal)
            schedule.gather(self._options.wait_for)
            if caught := merger.catch_up(clock.first_after(time.time())):
                self._emit("caught_up", merged=caught.merged, refused=caught.merge_refused)
            begun = int(self._journal.get("begun") or -1)
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
                number = schedule.following(number)
            schedule.leave(number)
            self._measure(ordinal)
        except Stopped:
            return rounds is None
        return True

    @property
    def _twin_share(self) -> float:
        if self._options.twin is None:
            return SHARE if self._learner.origin is not None else 0.0
        return self._options.twin

    def _solo_twin(self) -> SoloTwin | None:
        if self._start is None:
            return None
        start, self._start = self._start, None
        return SoloTwin(
            peer_id=self._identity.peer_id,
            learner=self._learner,
            start=start,
            recipe=self._recipe,
            journal=self._journal,
            folder=self._home.twin,
            share=self._twin_share,
            emit=self._emit,
        )

    def _weights_exchange(self) -> WeightsExchange | None:
        if not self._recipe.audits.publish_weights:
            return None
        me = self._identity.peer_id
        return WeightsExchange(peer_id=me, recipe=self._recipe, learner=self._learner, network=self._network)

    def _assigner(self, clock: Clock) -> Assigner:
        registry = self._membership.registry
        epochs = Epochs(clock, registry.terms().epoch_seconds or 1)
        assigner = Assigner(self._recipe, owners_if_known(registry, clock), epochs.epoch_of)
        last = last_pairs(self._journal)
        if last is not None:
            assigner.resume(*last)
        return assigner

    def _play(self, number: int, ordinal: int, schedule: Schedule, driver: Driver) -> dict[str, Any]:
        """The round's report as JSON."""
        self._committer.join()  # the round needs the audits of the one before
        self._journal.put("begun", str(number))  # killed in it, this peer must not say something else in it later
        schedule.begin(number, ordinal, self._learner.counters.generated_tokens_per_second)
        started = time.time()
        seed, from_chain = round_seed(self._membership.chain, self._membership.swarm, schedule.clock, number)
        self._emit(
            "round",
            round=number,
            ordinal=ordinal,
            of=self._last_ordinal,
            ends=schedule.clock.end(number),
            seed_from_chain=from_chain,
        )
        before = self._network.traffic()
        with self._kept(ordinal):
            outcome = driver.run(number, ordinal, seed, schedule)
        outcome.report.network = _network_figures(before, self._network)
        schedule.ended(outcome.published, outcome.missing, outcome.undelivered)
        snapshot, finished = self._learner.snapshot(), time.time()
        self._committer.start(lambda: self._commit(outcome, snapshot, started, finished, seed))
        return asdict(outcome.report)

    def _commit(self, outcome: Outcome, snapshot: Snapshot, started: float, finished: float, seed: bytes) -> None:
        """Checkpoint first, journal after: a checkpoint that no round names is only clutter."""
        report = outcome.report
        name = f"{report.ordinal:09d}"
        with self._kept(report.ordinal):
            snapshot.write(self._home.checkpoint(name))
            self._journal.commit_round(
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
        keep(self._journal, outcome.drawn)
        self._home.forget_checkpoints(name)
        self._emit("round_done", **asdict(report))

    @contextmanager
    def _kept(self, ordinal: int) -> Iterator[None]:
        """A disk that fails inside is said in one sentence."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise SwarmError(
                f"round {ordinal} could not be kept in {self._home.path}: {error}; "
                f"free some disk space and start again, it goes on after round {ordinal - 1}"
            ) from error

    def _measure(self, ordinal: int) -> None:
        self._committer.join()  # so that a measurement never stands for a round that was not kept
        measure(self._journal, self._recipe, self._learner, ordinal, self._emit)

    def _summary(self, seconds: float, finished: bool) -> dict[str, Any]:
        registry = self._membership.registry
        peer = summarise_peer(
            self._journal,
            registry,
            self._learner,
            peer_id=self._identity.peer_id,
            name=self._name,
            address=self._identity.address,
            finished=finished,
        )
        return summarise_swarm(self._membership.swarm, summarise_chain(registry), [peer], seconds)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


def _network_figures(before: Traffic, network: Network) -> dict[str, int]:
    earlier = asdict(before)
    moved = {kind: count - earlier[kind] for kind, count in asdict(network.traffic()).items()}
    return {**moved, **asdict(network.queues())}


def _as_others_see(rpc: str, address: str) -> str:
    """The url of a development chain that listens on every interface, with an address that others can dial."""
    return rpc.replace("//0.0.0.0:", f"//{address.split('/')[2]}:", 1)
