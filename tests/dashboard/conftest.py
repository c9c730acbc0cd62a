"""The homes of a real tiny swarm that has played three rounds, as its peers and an onlooker leave them on disk."""

import shutil
import time
from dataclasses import asdict

import pytest

from swarm import PROTOCOL
from swarm.events import Emitter
from swarm.identity.key import Identity
from swarm.identity.names import name_of
from swarm.journal.journal import Journal
from swarm.journal.latest import Latest
from swarm.round import assigned, following
from swarm.round.clock import Clock
from swarm.round.exchange import Exchange
from swarm.round.following import Follower
from swarm.round.home import JOURNAL_NAME
from swarm.round.records import LiveNote
from swarm.simulate.network import SimulatedNetwork
from tests.round.conftest import SEED, SWARM, make_bench

ROUNDS = 3
ONLOOKER = "onlooker"


class Watching:
    """Somebody who follows the rounds of a bench without a model."""

    def __init__(self, bench, home):
        home.mkdir()
        self.bench = bench
        self.journal = Journal(home / JOURNAL_NAME)
        for key, value in {"role": "onlooker", "chain_id": "1", "contract": "0xswarm"}.items():
            self.journal.put(key, value)
        self.journal.put("recipe", bench.recipe.canonical().decode())
        self.follower = Follower(
            chain=None,
            swarm=SWARM,
            recipe=bench.recipe,
            clock=Clock(int(time.time()), bench.recipe.timing),
            exchange=Exchange(SimulatedNetwork(bench.ether, Identity(bytes([9]) * 32)), SWARM, bench.recipe),
            journal=self.journal,
            emit=Emitter(Latest(self.journal), "onlooker"),
        )

    def look(self, number):
        """Look at a round that all have finished."""
        for network in self.bench.networks.values():
            Exchange(network, SWARM, self.bench.recipe).say_done(number, time.time())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(following, "round_seed", lambda *_: (SEED, True))
            self.follower.step({peer: live_note(number) for peer in self.bench.drivers})


def live_note(number):
    """The heartbeat of a peer in a round."""
    return LiveNote(
        protocol=PROTOCOL,
        name="",
        model="tiny",
        device="CPU",
        round=number,
        tokens_per_s=1.0,
        address="",
        recipe_bytes=1,
    )


@pytest.fixture(scope="session")
def played(tmp_path_factory):
    """A folder with peer-1 to peer-3, never changed; an onlooker's home is beside it."""
    folder = tmp_path_factory.mktemp("swarm")
    bench = make_bench(3)
    watching = Watching(bench, folder.with_name(ONLOOKER))
    journals = {}
    for place, me in enumerate(bench.drivers, start=1):
        home = folder / f"peer-{place}"
        home.mkdir()
        journals[me] = journal = Journal(home / JOURNAL_NAME)
        for key, value in {"chain_id": "1", "contract": "0xswarm", "rpc": "http://secret@127.0.0.1:9/key"}.items():
            journal.put(key, value)
        journal.put("recipe", bench.recipe.canonical().decode())
        emit = Emitter(Latest(journal), name_of(me))
        emit("identity", peer_id=me, address="0x", home=str(home))
        emit("model", model="tiny", device="CPU")
        others = {
            peer: {"name": name_of(peer), "model": "tiny", "device": "CPU", "tokens_per_s": 5.0}
            for peer in bench.drivers
            if peer != me
        }
        emit("peers", peers=others, other_versions=[])
        journal.note_heldout(0, time.time(), 16, 64)
    for ordinal in range(1, ROUNDS + 1):
        started = time.time()
        for me, outcome in bench.play().items():
            journals[me].commit_round(
                outcome.report.number,
                ordinal,
                started=started,
                finished=time.time(),
                seed=SEED,
                checkpoint="",
                report=asdict(outcome.report),
                records=outcome.records,
                audits=outcome.audits,
            )
            assigned.keep(journals[me], outcome.drawn)
        watching.look(ordinal - 1)
    watching.journal.close()
    for journal in journals.values():
        journal.note_heldout(ROUNDS, time.time(), 32, 64)
        journal.close()
    return folder


@pytest.fixture
def homes(played, tmp_path):
    """A copy of them to play with."""
    return shutil.copytree(played, tmp_path / "swarm")
