"""The homes of a real tiny swarm that has played three rounds, as its peers leave them on disk."""

import shutil
import time
from dataclasses import asdict

import pytest

from swarm.events import Emitter
from swarm.identity.names import name_of
from swarm.journal.journal import Journal
from swarm.journal.latest import Latest
from swarm.round import assigned
from swarm.round.home import JOURNAL_NAME
from tests.round.conftest import SEED, make_bench

ROUNDS = 3


@pytest.fixture(scope="session")
def played(tmp_path_factory):
    """A folder with peer-1 to peer-3, never changed."""
    folder = tmp_path_factory.mktemp("swarm")
    bench = make_bench(3)
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
    for journal in journals.values():
        journal.note_heldout(ROUNDS, time.time(), 32, 64)
        journal.close()
    return folder


@pytest.fixture
def homes(played, tmp_path):
    """A copy of them to play with."""
    return shutil.copytree(played, tmp_path / "swarm")
