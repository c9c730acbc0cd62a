"""Sealed audits: nobody can know or choose them before everybody has committed."""

import os

import pytest

from swarm import PROTOCOL
from swarm.errors import SwarmError
from swarm.identity.key import Identity
from swarm.judging.calibration import UNPROVEN
from swarm.recipe.seals import is_audit, prompts_by_seal, seal_of
from swarm.recipe.tasks import shared_tasks
from swarm.round.evidence import Book, Evidence
from swarm.round.openings import Openings, planted, spent_by
from swarm.round.records import OpenedItem, OpeningRecord, decode, decode_openings
from swarm.round.sealing import main
from tests.round.conftest import SEED, SWARM, empty_bench
from tests.round.sealed import sealed_recipe

AUTHOR = Identity(b"\x01" * 32)


def record(groups, peer=AUTHOR):
    return OpeningRecord(
        protocol=PROTOCOL, swarm=SWARM, round=0, peer_id=peer.peer_id, salt="00" * 16, groups=tuple(groups)
    )


def evidence(recipe, *records, seed=SEED, spent=()):
    book = Book()
    for one in records:
        book.add(one)
    return Evidence(recipe, seed, book, lambda judge: UNPROVEN, spent)


@pytest.fixture
def sealed(tmp_path):
    recipe, openings = sealed_recipe(tmp_path)
    return recipe, openings, shared_tasks(recipe, SEED)


def test_salt_and_seed_draw_the_share_of_the_recipe():
    salts = [f"{number:032x}" for number in range(4000)]
    drawn = [salt for salt in salts if is_audit(salt, SEED, 0.2)]
    assert 0.17 < len(drawn) / len(salts) < 0.23
    assert {salt for salt in drawn if is_audit(salt, b"t" * 32, 0.2)} < set(drawn), "another round has other audits"
    assert all(is_audit(salt, SEED, 1.0) for salt in salts)


def test_an_opening_gives_the_truth_of_its_task(sealed):
    recipe, openings, tasks = sealed
    due = openings.due(SEED, recipe.audits.share, tasks, ())
    assert 0 < len(due) < len({task.question for task in tasks}), "some are audits, some are not"
    assert all(task.entry["answer"] is None for task in tasks)
    opened = evidence(recipe, record(due))
    answers = [opened.task("anybody", number).entry["answer"] for number in range(len(tasks))]
    known = {item.seal: item.answer for item in due}
    assert answers == [known.get(task.entry["seal"]) for task in tasks]


def test_what_is_not_sealed_not_drawn_or_spent_opens_nothing(sealed):
    recipe, openings, tasks = sealed
    due = openings.due(SEED, recipe.audits.share, tasks, ())
    lie = due[0].model_copy(update={"answer": "something else"})
    salted = due[0].model_copy(update={"salt": "11" * 16})
    stranger = OpenedItem(seal=seal_of("x", "y", "22" * 16), salt="22" * 16, answer="y")
    assert evidence(recipe, record([lie, salted, stranger])).openings() == {}
    other = next(seed for number in range(99) if not is_audit(due[0].salt, seed := bytes([number]) * 32, 0.5))
    assert evidence(recipe, record(due[:1]), seed=other).openings() == {}, "the author cannot choose the audits either"
    assert spent_by(recipe, [record([lie, due[0]])]) == {due[0].seal}
    assert evidence(recipe, record(due), spent={due[0].seal}).openings().keys() == {item.seal for item in due[1:]}
    assert due[0] not in openings.due(SEED, recipe.audits.share, tasks, {due[0].seal})


def canaries_in(recipe, outcome):
    """(task, sample, whether it is right) of the canaries among the author's answers."""
    bodies = {row.stage: row.body for row in outcome.records if row.peer_id == AUTHOR.peer_id}
    answers, opened = decode("answer", bodies["answer"]), decode_openings(bodies["open"])
    known = evidence(recipe, opened)
    found = []
    for group in answers.groups:
        task = known.task(AUTHOR.peer_id, group.task)
        item = known.openings().get(task.entry["seal"])
        if item is not None:
            canary = planted(item, SEED, len(group.rollouts))
            if group.rollouts[canary.sample].text == canary.text:
                book = Book({AUTHOR.peer_id: answers}, openings={AUTHOR.peer_id: opened})
                all_known = Evidence(recipe, SEED, book, lambda judge: UNPROVEN)
                assert set(all_known.answer_rewards(answers, group)) == {None}, "it is no work, and earns nothing"
                found.append((group.task, canary.sample, canary.text == item.answer))
    return found


def test_a_round_with_sealed_items(tmp_path):
    """Only the author opens, only what is drawn, and all find the same audits; the next time they are spent."""
    recipe, openings = sealed_recipe(tmp_path)
    bench = empty_bench(recipe)
    for secret in (1, 2, 3):
        bench.add(Identity(bytes([secret]) * 32), openings if secret == 1 else None, published=True)
    first = bench.play()
    found = []
    for outcome in first.values():
        [row] = [row for row in outcome.records if row.stage == "open"]
        assert row.peer_id == AUTHOR.peer_id and not outcome.report.refused, "also the weights hold, by spot checks"
        levels = {row.peer_id: decode("answer", row.body).level for row in outcome.records if row.stage == "answer"}
        assert levels.pop(AUTHOR.peer_id) == "audit", "public noise would tell the canaries from what was sampled"
        assert set(levels.values()) == {"replicate"}
        opened = {prompts_by_seal(recipe)[item.seal] for item in decode_openings(row.body).groups}
        assert 0 < len(opened) < 14
        assert outcome.audits and outcome.report.dropped["nobody could judge it"], "the others have no truth"
        canaries = canaries_in(recipe, outcome)
        assert canaries, "the author's peer plants some"
        judged = {(audit.task, audit.truth) for audit in outcome.audits if audit.author == AUTHOR.peer_id}
        assert any((task, right) in judged for task, _, right in canaries), "judges are tried by them"
        found.append({(a.judge, a.author, a.task, a.sample): (a.raw, a.truth) for a in outcome.audits})
    assert found[0] == found[1] == found[2]
    for outcome in bench.play().values():  # with the same seed: the same items, which everybody knows by now
        assert not outcome.audits


def test_the_command_seals_and_keeps_the_answers_private(tmp_path, capsys):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"prompt": "2+2", "answer": "4"}\n{"prompt": "2+3", "answer": "5"}\n')
    assert main([str(tasks)]) == 0
    sealed, openings = tmp_path / "tasks.sealed.jsonl", tmp_path / "tasks.openings.jsonl"
    assert "answer" not in sealed.read_text() and os.stat(openings).st_mode & 0o777 == 0o600
    recipe, _ = sealed_recipe(tmp_path)
    with pytest.raises(SwarmError, match="opens no sealed item"):
        Openings.read(openings, recipe)
    openings.chmod(0o644)
    with pytest.raises(SwarmError, match="chmod 600"):
        Openings.read(openings, recipe)
    assert main([str(tasks)]) == 2, "seals that may be in use are not replaced"
    assert "exists already" in capsys.readouterr().err
