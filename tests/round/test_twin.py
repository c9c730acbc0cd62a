"""The solo twin: real tiny learners, and the arithmetic of the comparison."""

import pytest

from swarm.events import Emitter
from swarm.journal.journal import Journal
from swarm.recipe import catalogue
from swarm.recipe.schema import Heldout
from swarm.round import heldout, twin
from swarm.round.benefit import against_twin
from swarm.round.twin import SoloTwin
from swarm.training.learner import Learner, TrainingGroup
from swarm.training.obtain import obtain

TINY = catalogue.find("tiny").model_copy(update={"heldout": Heldout(count=16, every=2)})
HELPED = {"seconds": {"answer": 60.0, "wait": 500.0}, "merged": 1, "groups_fetched": 0}
ALONE = {**HELPED, "merged": 0}


class Peer:
    """What a peer gives its twin."""

    def __init__(self, folder, share=1.0, reports=()):
        self.journal = Journal(folder / "journal.sqlite")
        self.journal.reports = lambda: list(reports)
        self.events = []
        self.learner = Learner.load(obtain("tiny", print), TINY.model, TINY.grpo, seed=1, device="cpu", threads=1)
        self.start = self.learner.snapshot()
        self.folder = folder / "twin"
        self.share = share
        self.twin = self.begin()

    def begin(self):
        return SoloTwin(
            peer_id="me", learner=self.learner, start=self.start, recipe=TINY, journal=self.journal, folder=self.folder,
            share=self.share, emit=Emitter(self.events.append, "me"),
        )  # fmt: skip

    def practise(self, right="nus"):
        encode = lambda words: self.learner.encode(words, chat=False, system="")  # noqa: E731
        done = tuple((encode(word), tuple(-1.0 for _ in word)) for word in (right, right[::-1]))
        return self.learner.update([TrainingGroup(encode("sun>"), done, (1.0, -1.0), own=True, temperature=1.0)])

    def weights_of(self, state):
        """The fingerprint of a twin's state."""
        own = self.learner.snapshot()
        self.learner.put_back(state)
        found = self.learner.fingerprint
        self.learner.put_back(own)
        return found


@pytest.fixture
def peer(tmp_path):
    return Peer(tmp_path)


def test_a_peer_that_took_nothing_needs_no_twin(peer):
    assert peer.twin.after_round(ALONE) is None
    assert peer.twin.after_round({**ALONE, "groups_fetched": 2}) is not None
    assert peer.twin.after_round(ALONE) is not None, "others have part in it for good"


def test_the_peer_goes_on_as_if_there_were_no_twin(peer, tmp_path):
    (tmp_path / "other").mkdir()
    other = Peer(tmp_path / "other")
    for one in (peer, other):
        one.practise()
        one.learner.set_learning_rate(1e-2)
    assert peer.twin.after_round(HELPED) is not None
    assert peer.learner.learning_rate == 1e-2
    assert peer.learner.fingerprint == other.learner.fingerprint
    first, second = peer.practise("nsu"), other.practise("nsu")
    assert (first.loss, first.grad_norm) == (second.loss, second.grad_norm)
    assert peer.learner.fingerprint == other.learner.fingerprint


def test_the_twin_learns_alone_from_where_the_peer_started(peer, tmp_path):
    (tmp_path / "other").mkdir()
    other = Peer(tmp_path / "other")
    peer.practise()
    peer.learner.set_learning_rate(1e-2)
    played = []
    for _ in range(3):
        peer.practise()
        played.append(peer.twin.after_round(HELPED))
    for rounds in (1, 2, 3):  # another learner, at the recipe's rate, with nobody beside it
        other.twin._play(rounds)
        assert peer.weights_of(played[rounds - 1]) == other.learner.fingerprint
    assert peer.weights_of(played[2]) != peer.weights_of(peer.start)
    assert [state.state["rounds"] for state in played] == [1, 2, 3]


def test_the_twin_practises_as_much_as_the_peer_did(tmp_path, monkeypatch):
    """Else a peer that waits much would seem to be helped by the swarm."""
    peer = Peer(tmp_path, reports=[{**ALONE, "practised": 5}])
    asked = []
    monkeypatch.setattr(twin, "derive_tasks", lambda recipe, seed, count: asked.append(count) or [])
    for practised in (3, 0):
        peer.twin.after_round({**HELPED, "practised": practised})
    usual = TINY.tasks.shared + TINY.tasks.own
    assert asked == [usual + 5, usual + 3]


def test_a_twin_goes_on_after_a_restart(peer):
    peer.twin.write(peer.twin.after_round(HELPED))
    again = peer.begin().after_round(HELPED)
    assert again.state["rounds"] == 2
    assert peer.weights_of(again) == peer.weights_of(peer.twin.after_round(HELPED))


@pytest.mark.parametrize("damage", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_twin_begins_again(peer, damage):
    peer.twin.write(peer.twin.after_round(HELPED))
    before = peer.learner.fingerprint
    file = next(peer.folder.rglob(damage))
    file.write_bytes(file.read_bytes()[:20])
    twin = peer.begin()
    assert peer.learner.fingerprint == before
    assert twin.after_round(HELPED).state["rounds"] == 1


def test_it_takes_its_share_and_no_more(tmp_path):
    peer = Peer(tmp_path, share=1e-6)
    first = peer.twin.after_round(HELPED)
    assert first.state["seconds"] > 60e-6, "what a round takes is known after the first one"
    assert peer.twin.after_round(HELPED) is None
    peer.twin._share = first.state["seconds"] / 120
    assert peer.twin.after_round({**HELPED, "seconds": {"wait": 1e9}}) is None, "waiting is not work"
    assert peer.twin.after_round({**HELPED, "seconds": {"update": 1e9}}) is not None


def test_earlier_rounds_of_the_home_count(tmp_path):
    peer = Peer(tmp_path, share=1e-3, reports=[HELPED] * 100)
    assert peer.twin.after_round(ALONE) is not None
    assert peer.twin.after_round(ALONE) is not None


def test_it_is_measured_by_its_own_rounds_and_compared(peer):
    peer.journal.note_heldout_answers("peer", 0, [False] * 16)
    peer.journal.note_heldout_answers("peer", 2, [True] * 16)
    peer.twin.after_round(HELPED)
    assert not peer.events and not peer.journal.heldout_answers("twin")
    peer.twin.after_round(HELPED)
    [event] = peer.events
    wrong = peer.journal.heldout_answers("twin")[2].count(False)
    assert event["event"] == "twin" and event["rounds"] == 2
    assert event["help"]["gain"] == pytest.approx(wrong / 16, abs=1e-4) and event["help"]["rounds"] == 2


def test_held_out_answers_are_kept_question_by_question(peer):
    heldout.measure(peer.journal, TINY, peer.learner, 0, Emitter(peer.events.append, "me"))
    [(rounds, correct, count)] = peer.journal.heldout()
    kept = peer.journal.heldout_answers("peer")[0]
    assert (rounds, count) == (0, 16) and len(kept) == 16 and sum(kept) == correct
    assert peer.journal.heldout_answers("twin") == {}


def test_the_comparison_is_paired_at_the_last_common_round():
    right, wrong = [True], [False]
    peer = {0: right * 4, 5: right * 30 + wrong * 70, 10: right * 60 + wrong * 40, 15: right * 90 + wrong * 10}
    twin = {5: right * 30 + wrong * 70, 10: wrong * 10 + right * 40 + wrong * 50}
    told = against_twin(peer, twin)
    # 60 against 40 of 100; 20 questions were gained, none lost: variance .2 - .04 for one question
    assert told["gain"] == 0.2 and told["rounds"] == 10
    assert told["high"] - 0.2 == pytest.approx(1.96 * 0.4 / 10, abs=1e-4)
    assert told["low"] == pytest.approx(0.2 - 1.96 * 0.4 / 10, abs=1e-4)
    same = against_twin({5: right * 10}, {5: right * 10})
    assert (same["gain"], same["low"], same["high"]) == (0, -0.1, 0.1), "ten equal answers prove little"


@pytest.mark.parametrize(
    ("peer", "twin"),
    [
        ({}, {}),
        ({0: [True]}, {0: [True]}),
        ({5: [True]}, {10: [True]}),
        ({5: [True]}, {5: [True, False]}),
        ({5: []}, {5: []}),
    ],
)
def test_what_cannot_be_compared_is_not(peer, twin):
    assert against_twin(peer, twin) is None
