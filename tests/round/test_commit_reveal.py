"""Nobody can see a record before its author has seen that all are committed."""

import threading
import time

import pytest

from swarm import PROTOCOL
from swarm.identity.key import Identity
from swarm.network.blobs import BlobRef
from swarm.recipe import catalogue
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.tasks import shared_tasks
from swarm.round.exchange import Exchange
from swarm.round.records import AnswerRecord, OpeningRecord, StageNote, decode, encode
from swarm.round.replay import replay_group
from swarm.round.stages import encode_prompt
from swarm.round.wire import RecordRefused, note_bytes, read_note
from swarm.simulate.network import Ether, SimulatedNetwork
from swarm.training.learner import Learner, TrainingGroup
from swarm.training.obtain import obtain
from tests.round.conftest import SEED, SWARM, make_bench


def opening(peer_id, salt="00" * 16):
    return OpeningRecord(protocol=PROTOCOL, swarm=SWARM, round=0, peer_id=peer_id, salt=salt, groups=())


@pytest.fixture
def pair():
    ether, recipe = Ether(SWARM), catalogue.find("tiny")
    recipe = recipe.model_copy(update={"timing": recipe.timing.model_copy(update={"round_s": 5})})
    networks = [SimulatedNetwork(ether, Identity(bytes([secret]) * 32)) for secret in (1, 2)]
    return [(network, Exchange(network, SWARM, recipe)) for network in networks]


def test_a_commitment_shows_nothing_and_what_is_revealed_must_be_it(pair):
    (author, writer), (_, reader) = pair
    committed = writer.commit(opening(author.peer_id))
    notes = reader.announced(0, "open")
    assert set(notes) == {author.peer_id}, "everybody sees that it is committed"
    assert reader.collect(0, "open", notes, notes) == {}, "and nobody what to"
    author.put(encode(opening(author.peer_id, salt="11" * 16)))  # another record than the one committed to
    assert reader.collect(0, "open", notes, notes) == {} and reader.refused["not delivered"] == 2
    writer.reveal(committed)
    assert reader.collect(0, "open", notes, notes)[author.peer_id].record == opening(author.peer_id)


def test_who_waits_for_fewer_peers_than_the_author_waits_for_the_author(pair):
    (author, writer), (_, reader) = pair
    committed = writer.commit(opening(author.peer_id))
    notes = reader.announced(0, "open")
    still_waiting = threading.Timer(1.5, writer.reveal, [committed])  # three times what a fetch may take
    still_waiting.start()
    assert set(reader.collect(0, "open", notes, notes, until=time.time() + 30)) == {author.peer_id}
    still_waiting.join()


def test_two_records_that_say_the_same_have_other_hashes():
    """So that nobody finds out what is in one by trying."""
    blobs = [encode(opening("1" * 45, salt=digit * 32)) for digit in "01"]
    assert BlobRef.of(blobs[0]).sha256 != BlobRef.of(blobs[1]).sha256
    with pytest.raises(RecordRefused):
        decode("open", encode(opening("1" * 45).model_copy(update={"salt": ""})))


class Played:
    """A round of two whose starting weights everybody has; what the first announced, and those weights."""

    def __init__(self):
        self.bench = make_bench(2, published=True)
        self.outcomes = self.bench.play()
        self.me = next(iter(self.outcomes))
        recipe = self.bench.recipe
        self.learner = Learner.load(obtain("tiny", print), recipe.model, recipe.grpo, seed=1, device="cpu", threads=1)
        row = next(row for row in self.outcomes[self.me].records if (row.stage, row.peer_id) == ("answer", self.me))
        self.record = decode("answer", row.body)

    def replay(self, record, learner=None, seed=SEED):
        learner = learner or self.learner
        prompt = answer_prompt(self.bench.recipe, shared_tasks(self.bench.recipe, SEED)[0])
        encoded = encode_prompt(learner, self.bench.recipe, prompt)
        return replay_group(learner, self.bench.recipe, seed, record, 0, encoded)


@pytest.fixture(scope="module")
def played():
    return Played()


def with_rollouts(record, change):
    group = record.groups[0]
    changed = group.model_copy(update={"rollouts": tuple(change(list(group.rollouts)))})
    return record.model_copy(update={"groups": (changed, *record.groups[1:])})


def test_everybody_checks_the_others_and_honest_rollouts_hold(played):
    assert played.record.level == "replicate" and played.record.fingerprint == played.learner.fingerprint
    assert all(outcome.report.partners == 1 and not outcome.report.refused for outcome in played.outcomes.values())
    found = played.replay(played.record)
    assert found.wrong is None and found.misses == 0 and found.drift < 1e-3


def test_best_of_many_shows(played):
    """Completions of the right weights, and other ones than the public noise gives: here those of another peer."""
    other = next(peer for peer in played.outcomes if peer != played.me)
    row = next(r for r in played.outcomes[other].records if (r.stage, r.peer_id) == ("answer", other))
    chosen = decode("answer", row.body).groups[0].rollouts
    swapped = with_rollouts(played.record, lambda rollouts: chosen)
    assert "public noise" in played.replay(swapped).wrong
    audited = swapped.model_copy(update={"level": "audit"})
    assert played.replay(audited).wrong is None, "without the noise nobody could tell"


def test_another_model_shows(played):
    """The weights after some updates are not those that the record names."""
    recipe, group = played.bench.recipe, played.record.groups[0]
    trained = Learner.load(obtain("tiny", print), recipe.model, recipe.grpo, seed=1, device="cpu", threads=1)
    work = TrainingGroup(
        prompt=encode_prompt(trained, recipe, answer_prompt(recipe, shared_tasks(recipe, SEED)[0])),
        completions=tuple((rollout.tokens, rollout.logprobs) for rollout in group.rollouts),
        advantages=tuple(1.0 if index % 2 else -1.0 for index in range(len(group.rollouts))),
        own=True,
        temperature=1.0,
    )
    for _ in range(8):
        trained.update([work])
    assert "named weights" in played.replay(played.record, trained).wrong


def test_false_logprobs_texts_and_ends_show(played):
    def told(change):
        return played.replay(with_rollouts(played.record, lambda r: [o.model_copy(update=change(o)) for o in r])).wrong

    assert "log-probabilities" in told(lambda one: {"logprobs": tuple(value - 0.5 for value in one.logprobs)})
    assert "text" in told(lambda one: {"text": "right"})
    assert "end" in told(lambda one: {"finished": not one.finished})


def test_a_round_refuses_what_does_not_replay(played):
    """A peer that names the common weights and samples by noise of its own choice."""
    bench = make_bench(2, published=True)
    cheat = Identity(b"\x07" * 32)
    network = SimulatedNetwork(bench.ether, cheat)
    record = played.record.model_copy(update={"peer_id": cheat.peer_id})  # honest, but by the noise of another
    reference = network.put(encode(record))
    note = StageNote(sha256=reference.sha256, size=reference.size, groups=len(record.groups))
    network.announce("0/answer", note_bytes(note), 60)
    assert isinstance(record, AnswerRecord) and read_note(StageNote, note_bytes(note)) == note
    for outcome in bench.play().values():
        assert outcome.report.refused == {"not replayed": 1} and cheat.peer_id not in outcome.published
