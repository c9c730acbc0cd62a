"""A round with the real model over an in-memory network: everybody's work counts, nobody's word does."""

import statistics
import threading
import time
import zlib
from collections import Counter

import pytest

from swarm.identity.key import Identity
from swarm.judging.calibration import calibrate
from swarm.recipe.tasks import shared_tasks
from swarm.recipe.verifiers import verify
from swarm.round import driver, experience
from swarm.round.clock import Clock
from swarm.round.evidence import Book
from swarm.round.experience import Reader
from swarm.round.records import AnswerRecord, StageNote, decode, encode
from swarm.round.wire import RecordRefused, note_bytes, read_note
from swarm.simulate.network import SimulatedNetwork
from tests.round.conftest import SEED, make_bench

STRANGER = Identity(b"\x09" * 32)


def test_a_round_of_three(bench):
    outcomes = bench.play()
    for me, outcome in outcomes.items():
        report = outcome.report
        assert report.partners == 2 and outcome.published == set(outcomes) and not outcome.missing
        assert report.rollouts_published == 8 * 8 + 4 * 8 + report.revisions
        assert report.critiques == 32 and report.verdicts == 4 * 8 and report.revisions == 2 * 8
        assert report.rollouts_fetched == sum(o.report.rollouts_published for p, o in outcomes.items() if p != me)
        assert report.updated and report.groups_fetched > 0 and not report.refused
        assert report.generated_tokens > 0 and report.points >= 0
        stages = Counter(row.stage for row in outcome.records)
        assert stages == {"answer": 3, "critique": 3, "revise": 3}
        judges = Counter(audit.judge for audit in outcome.audits)
        assert set(judges) == set(outcomes)


def test_everybody_computes_the_same_audits(bench):
    outcomes = list(bench.play().values())
    first = {(a.judge, a.author, a.task, a.sample): (a.raw, a.truth) for a in outcomes[0].audits}
    for other in outcomes[1:]:
        assert {(a.judge, a.author, a.task, a.sample): (a.raw, a.truth) for a in other.audits} == first


def test_rewards_are_those_of_the_verifier(bench):
    outcomes = bench.play()
    me, outcome = next(iter(outcomes.items()))
    own = next(row for row in outcome.records if row.stage == "answer" and row.peer_id == me)
    record = decode("answer", own.body)
    tasks = shared_tasks(bench.recipe, SEED)
    shared = [group for group in record.groups if group.task < len(tasks)]
    expected = [verify(bench.recipe, tasks[group.task], rollout.text) for group in shared for rollout in group.rollouts]
    assert 0 < sum(expected) < len(expected)
    assert outcome.report.reward == pytest.approx(outcome.report.rewards["answer"])


def test_judges_are_calibrated_after_a_few_rounds(bench):
    for _ in range(3):
        outcomes = bench.play()
    found = [outcome.report.informedness for outcome in outcomes.values()]
    assert statistics.mean(found) > 0.15


def test_peers_that_fetch_from_few_still_agree_on_who_judges_whom():
    """Each fetches one other's answers and what it has to judge; with a roster of the fetched they would not agree."""
    bench = make_bench(6, fetch_peers=1, judges=1)
    for outcome in bench.play().values():
        assert outcome.report.partners < 5
        assert outcome.report.critiques == 4 * 8, "every judge has its share of the work"
        assert outcome.report.revisions == 4 * 8, "every critique reached its author and was accepted"
        assert not outcome.report.refused and not outcome.missing and not outcome.undelivered


def test_of_who_said_two_things_nothing_is_used_from_then_on():
    """Its answers were accepted before the offence was known; judges are drawn as if nothing had happened."""
    bench = make_bench(3)
    *others, liar = bench.drivers
    for me in others:
        looks = iter([set(), {liar}, {liar}])
        bench.drivers[me]._exchange.accused = lambda number, looks=looks: next(looks)
    outcomes = bench.play()
    for me in others:
        assert outcomes[me].drawn == outcomes[liar].drawn and liar in outcomes[me].published
        assert not [audit for audit in outcomes[me].audits if liar in (audit.judge, audit.author)]
        held = {row.stage: bool(row.body) for row in outcomes[me].records if row.peer_id == liar}
        assert held == {"answer": False, "critique": False, "revise": False}, "announcements stay, for the settlement"
        assert outcomes[me].report.updated
    assert {audit.author for audit in outcomes[others[0]].audits} == set(others)


def test_an_update_is_made_in_as_many_steps_as_peers_were_merged():
    bench = make_bench(2)
    merging, alone = bench.drivers.values()
    merging._merger = Merged("one", "other")
    outcomes = bench.play()
    assert outcomes[merging._peer_id].report.update["steps"] == 3
    assert outcomes[alone._peer_id].report.update["steps"] == 1


@pytest.fixture(scope="module")
def honest(bench):
    """An honest answer record."""
    me, outcome = next(iter(bench.play().items()))
    row = next(row for row in outcome.records if row.stage == "answer" and row.peer_id == me)
    return decode("answer", row.body)


def groups_in(blob):
    try:
        return len(decode("answer", blob).groups)
    except RecordRefused:
        return 1


def intrude(bench, blob, more=0):
    """A fourth peer announces `blob` as its answers to the next round, and garbage after that."""
    network = SimulatedNetwork(bench.ether, STRANGER)
    for stage, data in (("answer", blob), ("critique", b"x"), ("revise", b"x")):
        reference = network.put(data)
        note = StageNote(sha256=reference.sha256, size=reference.size, groups=groups_in(data) + more)
        network.announce(f"{bench.played}/{stage}", note_bytes(note), 60)
    with network:
        return bench.play(others=frozenset({STRANGER.peer_id}))


def changed(record: AnswerRecord, number: int, **update) -> bytes:
    """The record as the stranger's own of a round, with a few things changed."""
    return encode(record.model_copy(update={"peer_id": STRANGER.peer_id, "round": number, **update}))


def first_group(record, **update):
    return (record.groups[0].model_copy(update=update), *record.groups[1:])


def first_rollout(record, **update):
    rollouts = record.groups[0].rollouts
    return first_group(record, rollouts=(rollouts[0].model_copy(update=update), *rollouts[1:]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r, n: encode(r), "replayed"),
        (lambda r, n: changed(r, n, swarm="2:0xother"), "replayed"),
        (lambda r, n: changed(r, n + 1), "replayed"),
        (lambda r, n: changed(r, n, protocol=1), "garbage"),
        (lambda r, n: b"\x00" * 100, "garbage"),
        (lambda r, n: changed(r, n)[:-5], "too large"),
        (lambda r, n: zlib.compress(bytes(2**26), 9), "too large"),  # a bomb: 64 KB that become 64 MB
        (lambda r, n: changed(r, n, groups=r.groups * 2), "too long"),
        (lambda r, n: changed(r, n, groups=tuple(reversed(r.groups))), "incomplete"),
        (lambda r, n: changed(r, n, groups=first_group(r, rollouts=r.groups[0].rollouts[:3])), "incomplete"),
        (lambda r, n: changed(r, n, groups=(*r.groups[:-1], r.groups[0])), "twice"),
        (lambda r, n: changed(r, n, groups=first_group(r, task=99)), "too long"),
        (lambda r, n: changed(r, n, groups=first_group(r, rollouts=r.groups[0].rollouts * 2)), "too long"),
        (lambda r, n: changed(r, n, groups=first_rollout(r, tokens=(5,) * 40, logprobs=(0.0,) * 40)), "too long"),
        (lambda r, n: changed(r, n, groups=first_rollout(r, finished=False, tokens=(5,), logprobs=(0.0,))), "too long"),
        (lambda r, n: changed(r, n, groups=first_rollout(r, tokens=(5, 5))), "garbage"),
        (lambda r, n: changed(r, n, groups=first_rollout(r, logprobs=(float("nan"),) * 3)), "garbage"),
        (
            lambda r, n: changed(r, n, groups=first_rollout(r, tokens=(9999,), logprobs=(0.0,), finished=True)),
            "token out of range",
        ),
    ],
)
def test_a_false_record_is_refused_and_counted(bench, honest, change, reason):
    for outcome in intrude(bench, change(honest, bench.played)).values():
        assert outcome.report.partners == 2
        assert outcome.report.refused.get(reason, 0) >= 1, outcome.report.refused
        assert all(not row.body for row in outcome.records if row.peer_id == STRANGER.peer_id)


def test_a_record_holds_as_many_groups_as_announced(bench, honest):
    for outcome in intrude(bench, changed(honest, bench.played), more=-1).values():
        assert outcome.report.partners == 2 and outcome.report.refused["not as announced"] >= 1


def test_a_claimed_text_is_not_believed(bench, honest):
    blob = changed(honest, bench.played, groups=first_rollout(honest, text="whatever is right"))
    for me, outcome in intrude(bench, blob).items():
        assert outcome.report.partners == 3
        row = next(row for row in outcome.records if row.peer_id == STRANGER.peer_id)
        rollout = decode("answer", row.body).groups[0].rollouts[0]
        assert rollout.text == "whatever is right" != bench.learners[me].decode(rollout.tokens)


def test_a_peer_that_does_not_deliver_costs_nothing_but_itself(bench, monkeypatch):
    # it could be waiting for others: it is waited for until the stage is over, and then no more in this round
    monkeypatch.setattr(Clock, "due", lambda self, number, stage: time.time() + 5)
    absent = StageNote(sha256="ab" * 32, size=100, groups=8)
    ghost = SimulatedNetwork(bench.ether, STRANGER)
    for stage in ("answer", "critique", "revise"):
        ghost.announce(f"{bench.played}/{stage}", note_bytes(absent), 60)
    with ghost:
        outcomes = bench.play(others=frozenset({STRANGER.peer_id}))
    for outcome in outcomes.values():
        assert outcome.report.partners == 2 and outcome.report.refused["not delivered"] >= 1
        assert outcome.undelivered == {STRANGER.peer_id} and not outcome.missing, "it is left alone in the next round"


def test_critiques_are_read_while_others_revise(bench, monkeypatch):
    slow, *others = bench.learners.values()
    read, revise, begun, all_read = experience.verdicts, driver.revise, set(), threading.Event()

    def verdicts(learner, recipe, asked):
        begun.add(learner)
        if begun >= set(others):
            all_read.set()
        return read(learner, recipe, asked)

    def revise_slowly(learner, *work):
        if learner is slow:
            assert all_read.wait(20), "the others read while this one has not revised yet"
        return revise(learner, *work)

    monkeypatch.setattr(experience, "verdicts", verdicts)
    monkeypatch.setattr(driver, "revise", revise_slowly)
    for outcome in bench.play().values():
        assert outcome.report.seconds["wait"] >= 0 and not outcome.missing


def test_what_is_read_ahead_is_not_read_again(bench, monkeypatch):
    outcomes = bench.play()
    me, rows = next((me, outcome.records) for me, outcome in outcomes.items())

    def reader(merged=()):
        book = Book()
        for row in rows:
            book.add(decode(row.stage, row.body))
        return Reader(bench.learners[me], bench.recipe, SEED, book, lambda judge: calibrate([]), (), merged), book

    slowly, book = reader()
    expected = [slowly.groups(record) for record in book.records()]
    ahead, book = reader()
    assert sum(ahead.read_ahead(me, 100)) == sum(len(record.groups) for record in book.critiques.values()) == 3 * 4
    others = set(bench.learners) - {me}
    assert sum(reader(merged=others)[0].read_ahead(me, 100)) == 4, "those of merged peers are not for the update"
    assert sum(reader()[0].read_ahead(me, 0)) == 4, "where the answers of others are enough"
    means = {
        group.author: [reward for one in found for reward in one.rewards]
        for found in expected
        for group in found
        if group.stage == "answer"
    }
    assert ahead.answer_means() == {author: pytest.approx(sum(rs) / len(rs)) for author, rs in means.items()}
    first, *rest = ahead.fetched(me)
    assert {group.stage for group in first} == {"answer", "revise"}, "what has to be read comes last, by author"
    assert [({one.author for one in batch} <= others, {one.stage for one in batch}) for batch in rest] == (
        [(True, {"critique"})] * 2
    )
    monkeypatch.setattr(experience, "verdicts", None)
    assert [ahead.groups(record) for record in book.records()] == expected


class Merged:
    """Stands where weights are merged: those of some peers were, before this round."""

    def __init__(self, *partners):
        self.partners = frozenset(partners)
        self.steps = 1 + len(partners)

    def due(self, ordinal):
        return False


@pytest.mark.parametrize("setting", ["skip", "train"])
def test_what_merged_peers_wrote_is_judged_and_not_trained_on(bench, monkeypatch, setting):
    me, one, other = bench.drivers
    sharing = bench.recipe.sharing.model_copy(update={"merged_peers": setting})
    monkeypatch.setattr(bench.drivers[me], "_recipe", bench.recipe.model_copy(update={"sharing": sharing}))
    monkeypatch.setattr(bench.drivers[me], "_merger", Merged(one, other))
    read, of = experience.verdicts, Counter()

    def verdicts(learner, recipe, asked):
        of[learner] += 1
        return read(learner, recipe, asked)

    monkeypatch.setattr(experience, "verdicts", verdicts)
    outcomes = bench.play()
    mine, theirs = outcomes[me], outcomes[one]
    trained = setting == "train"
    assert (mine.report.groups_fetched > 0) == trained and theirs.report.groups_fetched > 0
    assert ("of a merged peer" in mine.report.dropped) != trained
    assert (of[bench.learners[me]] > 4) == trained, "nor are its critiques read for nothing, beside the four own ones"
    assert {(a.judge, a.author, a.task, a.sample, a.truth) for a in mine.audits} == {
        (a.judge, a.author, a.task, a.sample, a.truth) for a in theirs.audits
    }


def test_notes_are_strict():
    with pytest.raises(ValueError):
        StageNote(sha256="../../etc/passwd", size=1, groups=8)
    for value in (b"", b"{}", b"[]", b'{"sha256":"' + b"a" * 64 + b'","size":1,"more":2}', b"\xff"):
        with pytest.raises(RecordRefused):
            read_note(StageNote, value)
