"""Three peers with the real tiny model, the real driver, and an in-memory network."""

import threading
import time
from dataclasses import dataclass, field

import pytest

from swarm.events import Emitter
from swarm.identity.key import Identity
from swarm.judging.calibration import calibrate
from swarm.recipe import catalogue
from swarm.recipe.schema import Recipe
from swarm.round.clock import Clock
from swarm.round.driver import Driver
from swarm.round.exchange import Exchange
from swarm.round.openings import Openings
from swarm.round.report import Outcome
from swarm.round.weights import WeightsExchange
from swarm.simulate.network import Ether, SimulatedNetwork
from swarm.training.learner import Learner
from swarm.training.obtain import obtain

SWARM = "1:0xswarm"
SEED = b"s" * 32


@dataclass
class Everybody:
    """A company in which all are waited for."""

    peers: set

    def expected(self):
        return set(self.peers)

    def worth_fetching(self, peers):
        return set(peers)


@dataclass
class Bench:
    """Peers that play rounds together, in threads."""

    recipe: object
    ether: Ether
    clock: Clock
    networks: dict[str, SimulatedNetwork] = field(default_factory=dict)
    drivers: dict[str, Driver] = field(default_factory=dict)
    learners: dict[str, Learner] = field(default_factory=dict)
    audits: dict[str, list] = field(default_factory=dict)
    played: int = 0

    def add(self, identity: Identity, openings: Openings | None = None, *, published: bool = False) -> str:
        """`published`: everybody can have the weights that this peer starts with."""
        me = identity.peer_id
        folder = obtain("tiny", lambda line: None)
        self.networks[me] = SimulatedNetwork(self.ether, identity)
        self.learners[me] = Learner.load(folder, self.recipe.model, self.recipe.grpo, seed=1, device="cpu", threads=1)
        self.audits.setdefault(me, [])
        self.drivers[me] = Driver(
            peer_id=me,
            swarm=SWARM,
            recipe=self.recipe,
            clock=self.clock,
            learner=self.learners[me],
            exchange=Exchange(self.networks[me], SWARM, self.recipe),
            calibration=lambda judge: calibrate(
                [(audit.raw, audit.truth) for audit in self.audits[me] if audit.judge == judge]
            ),
            emit=Emitter(lambda event: None, me),
            openings=openings,
            published={self.learners[me].fingerprint} if published else (),
            weights=self._weights(me) if self.recipe.audits.publish_weights else None,
        )
        return me

    def _weights(self, me: str) -> WeightsExchange:
        learner, network = self.learners[me], self.networks[me]
        return WeightsExchange(peer_id=me, recipe=self.recipe, learner=learner, network=network)

    def play(self, *, others: frozenset = frozenset()) -> dict[str, Outcome]:
        """The next round of all peers at once. `others` publish by other means and are waited for too."""
        number = self.played
        self.played += 1
        outcomes: dict[str, Outcome] = {}
        failures: list[Exception] = []

        def run(me: str) -> None:
            try:
                everybody = set(self.drivers) | others
                outcomes[me] = self.drivers[me].run(number, number + 1, SEED, Everybody(everybody))
                in_a_journal = sorted(outcomes[me].audits, key=lambda it: (it.author, it.task, it.sample))
                self.audits[me] += in_a_journal
            except Exception as error:  # noqa: BLE001 - shown by the test that waits for it
                failures.append(error)

        threads = [threading.Thread(target=run, args=(me,)) for me in self.drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures, failures
        assert set(outcomes) == set(self.drivers), "all have come to the end of the round"
        return outcomes


def make_bench(peers: int, *, published: bool = False, audits: dict | None = None, **sharing: int) -> Bench:
    """So many peers on the tiny recipe, with a few things changed in how they audit and share."""
    tiny = catalogue.find("tiny")
    recipe = tiny.model_copy(
        update={
            "tasks": tiny.tasks.model_copy(update={"shared": 4, "own": 4}),
            "sharing": tiny.sharing.model_copy(update=sharing),
            "audits": tiny.audits.model_copy(update=audits or {}),
        }
    )
    bench = empty_bench(recipe)
    for secret in range(1, peers + 1):
        bench.add(Identity(bytes([secret]) * 32), published=published)
    return bench


def empty_bench(recipe: Recipe) -> Bench:
    # deadlines far in the future: peers go on when all have published
    return Bench(recipe, Ether(SWARM), Clock(int(time.time()) + 10_000, recipe.timing))


@pytest.fixture(scope="module")
def bench():
    return make_bench(3)
