"""What somebody without a model can say of a swarm."""

import time
from types import SimpleNamespace

import pytest

from swarm.identity.key import Identity
from swarm.network.blobs import BlobRef
from swarm.recipe import catalogue
from swarm.round import following
from swarm.round.exchange import Exchange
from swarm.round.following import _affordable
from swarm.round.records import StageNote
from swarm.round.wire import note_bytes
from swarm.simulate.network import Ether, SimulatedNetwork
from tests.dashboard.asking import board_of, body, live_board_of
from tests.dashboard.conftest import ONLOOKER, ROUNDS, Watching, live_note
from tests.round.conftest import SWARM


@pytest.fixture(scope="module")
def outside(played):
    return board_of(played.with_name(ONLOOKER))


def test_it_finds_what_the_peers_earned(outside, played):
    inside = {row["peer_id"]: row for row in board_of(played).leaderboard()["rows"]}
    rows = {row["peer_id"]: row for row in body(outside, "/api/leaderboard")["rows"]}
    assert set(rows) == set(inside)
    for peer_id, row in rows.items():
        for key in ("points", "reward", "spark", "informedness", "critiques", "streak", "share_audited"):
            assert row[key] == pytest.approx(inside[peer_id][key], abs=1e-4), key
        assert row["heldout"] is None


def test_its_rounds_are_those_of_the_peers(outside, played):
    assert [row["peers"] for row in body(outside, "/api/rounds")["rows"]] == [3] * ROUNDS
    seen, lived = body(outside, "/api/rounds/1"), body(board_of(played), "/api/rounds/1")
    assert seen["seed"] == lived["seed"] and seen["tasks"] == lived["tasks"]


def test_what_it_cannot_know_is_null(played):
    outside = live_board_of(played.with_name(ONLOOKER))
    (curves,) = body(outside, "/api/learning")["peers"].values()
    assert curves["name"] == "mean of all peers" and None not in curves["answer"]
    for unknown in ("critique", "trained", "fetched", "tokens_per_s", "drift", "memory", "joules"):
        assert curves[unknown] == [None] * ROUNDS, unknown
    status = body(outside, "/api/status")
    assert [home["role"] for home in status["homes"]] == ["onlooker"] and status["heldout"] is None
    assert status["exchange"]["stage"] == "revise" and len(status["exchange"]["peers"]) == 3
    assert status["round"]["number"] == ROUNDS - 1 and status["stage"] == "update"


def test_garbage_is_refused_and_counted_once(tmp_path):
    recipe = catalogue.find("tiny")
    bench = SimpleNamespace(recipe=recipe, ether=Ether(SWARM), networks={}, drivers={})
    liar = Identity(bytes([1]) * 32)
    network = bench.networks[liar.peer_id] = SimulatedNetwork(bench.ether, liar)
    bench.drivers[liar.peer_id] = None
    watching = Watching(bench, tmp_path / "home")
    for stage, blob in (("answer", b"no record"), ("critique", None)):
        note = StageNote(sha256=(network.put(blob) if blob else BlobRef.of(b"kept")).sha256, size=9, groups=2)
        network.announce(f"0/{stage}", note_bytes(note), 60)
    watching.follower.step({liar.peer_id: live_note(0)})
    watching.look(0)
    (report,) = watching.journal.reports()
    assert sum(report["refused"].values()) == 2 and report["refused"]["not delivered"] == 1
    assert report["partners"] == 0 and report["reward"] is None


def test_a_round_that_nobody_plays_is_forgotten(tmp_path):
    recipe = catalogue.find("tiny")
    bench = SimpleNamespace(recipe=recipe, ether=Ether(SWARM), networks={}, drivers={})
    watching = Watching(bench, tmp_path / "home")
    far = {Identity(bytes([n]) * 32).peer_id: live_note(n) for n in range(1, 30)}
    watching.follower.step(far)
    assert len(watching.follower._open) <= following.MAX_OPEN
    watching.follower._clock = type(watching.follower._clock)(int(time.time()) - 10_000, recipe.timing)
    watching.follower.step({})
    assert watching.follower._open == {} and watching.journal.reports() == []


def test_it_fetches_no_more_than_it_can_hold():
    def note(size):
        return None, StageNote(sha256="0" * 64, size=size, groups=1)

    notes = {f"peer{n}": note(8 * 2**20) for n in range(20)} | {"small": note(10)}
    chosen = _affordable(notes)
    assert chosen[0] == "small" and len(chosen) == 8


def test_its_exchange_says_nothing(played):
    """Nothing is announced by an onlooker: all that it uses of the exchange is reading."""
    used = {
        name for name in vars(Exchange) if f"_exchange.{name}(" in following.__loader__.get_source(following.__name__)
    }
    assert used == {"wait", "done", "seen", "collect"}
