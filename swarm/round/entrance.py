"""How a peer enters: its home, the swarm, the network, its model, the chain; all that must be there before a round."""

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from swarm import PROTOCOL, __version__
from swarm.chain.outbox import Outbox
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import Identity, load_or_create
from swarm.identity.names import name_of
from swarm.journal.journal import Journal
from swarm.journal.latest import Latest
from swarm.network.daemon import check_port
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.network.reach import Reach
from swarm.recipe.schema import Recipe
from swarm.round.accusation import Accuser, reporter
from swarm.round.clock import Clock, lifetime_s
from swarm.round.founding import Membership, enter, find_recipe
from swarm.round.home import Home
from swarm.round.openings import Openings
from swarm.round.options import Options
from swarm.round.peer_cache import PeerCache
from swarm.round.planning import make_plan
from swarm.round.presence import Presence
from swarm.round.records import LiveNote
from swarm.round.schedule import Stopped
from swarm.round.twin import SHARE, SoloTwin
from swarm.settlement.settler import Settler
from swarm.training.checkpoint import Snapshot
from swarm.training.learner import Learner
from swarm.training.obtain import obtain


@dataclass(frozen=True)
class Entered:
    """A peer that others can see, with all that its rounds need."""

    home: Home
    identity: Identity
    name: str
    journal: Journal
    membership: Membership
    network: Network
    recipe: Recipe
    openings: Openings | None
    learner: Learner
    common: set[str]
    """Fingerprints of the weights that everybody can have: the recipe's own model, until it has learned here."""
    twin: SoloTwin | None
    presence: Presence
    accuser: Accuser


class Entrance:
    """One peer's way in; what it starts ends with the stack, in reverse order."""

    def __init__(self, options: Options, emit: Emitter, stop: threading.Event, stack: ExitStack) -> None:
        self._options = options
        self._emit = emit
        self._stop = stop
        self._stack = stack

    def run(self) -> Entered:
        """Enter the swarm.

        Raises:
            SwarmError: it could not.
            Stopped: it was stopped on the way.
        """
        named = self._options.recipe
        self._open()
        model_folder = self._obtain(named) if named else None
        self._enter(named)
        self._start_network()
        self._recipe = self._membership.recipe or self._find_recipe()
        self._journal.put("recipe", self._recipe.canonical().decode())
        openings = self._read_openings()
        start = self._load(model_folder or self._obtain(self._recipe))
        twin = self._solo_twin(start) if start is not None else None
        self._register()
        self._appear()
        self._settle()
        return Entered(
            home=self._home,
            identity=self._identity,
            name=self._name,
            journal=self._journal,
            membership=self._membership,
            network=self._network,
            recipe=self._recipe,
            openings=openings,
            learner=self._learner,
            common=self._common,
            twin=twin,
            presence=self._presence,
            accuser=self._accuser,
        )

    def _open(self) -> None:
        self._home = Home(self._options.home)
        self._stack.callback(self._home.close)
        self._identity = load_or_create(self._home.key_file)
        self._name = self._options.name or name_of(self._identity.peer_id)
        self._emit.peer = self._name
        self._journal = Journal(self._home.journal_file)
        self._stack.callback(self._journal.close)
        self._stack.enter_context(self._emit.also(Latest(self._journal)))
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

    def _enter(self, recipe: Recipe | None) -> None:
        self._check_stop()
        options = self._options
        self._membership = enter(
            self._stack,
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

    def _start_network(self) -> None:
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
        self._stack.callback(self._network.close)
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

    def _load(self, folder: Path) -> Snapshot | None:
        """Load the model and what it has learned so far; the model as it was before is what a twin starts from."""
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
        start = self._learner.snapshot() if self._twin_share else None
        last = self._journal.last_round()
        if last is not None:
            self._learner.restore(self._home.checkpoint(last.checkpoint))
            self._emit("resumed", round=last.number, ordinal=last.ordinal)
        self._emit("model", model=self._learner.name, device=self._learner.device_name)
        make_plan(self._journal, recipe, self._learner, self._emit)
        return start

    def _register(self) -> None:
        self._check_stop()
        self._emit("starting", what="the registration of this peer on the chain", expect_s=2)
        receipt = self._membership.registry.register(self._identity)
        self._emit("registered", address=self._identity.address, gas=receipt.gas_used if receipt else None)

    def _appear(self) -> None:
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
        self._stack.callback(self._presence.stop)
        self._presence.start()
        invite = Invite(
            _as_others_see(membership.chain.url, network.addresses[0]),
            int(membership.swarm.split(":")[0]),
            membership.registry.address,
            tuple(network.addresses[:4]),
        )
        self._emit("invite", invite=invite.encode())

    def _settle(self) -> None:
        """Send what is due to the chain, and settle epochs, beside the rounds."""
        membership = self._membership
        outbox = Outbox(self._journal, membership.chain, self._identity, self._emit)
        self._stack.callback(outbox.stop)
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
        self._stack.callback(settler.stop)
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

    @property
    def _twin_share(self) -> float:
        if self._options.twin is None:
            return SHARE if self._learner.origin is not None else 0.0
        return self._options.twin

    def _solo_twin(self, start: Snapshot) -> SoloTwin:
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

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


def _as_others_see(rpc: str, address: str) -> str:
    """The url of a development chain that listens on every interface, with an address that others can dial."""
    return rpc.replace("//0.0.0.0:", f"//{address.split('/')[2]}:", 1)
