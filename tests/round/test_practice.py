"""Practice while waiting: real tiny learners, the real driver, an in-memory network."""

import threading

import pytest

from swarm.recipe import catalogue
from swarm.recipe.schema import Item, ItemSource
from swarm.recipe.verifiers import verify
from swarm.round import practice as practice_module
from swarm.round.practice import Practice, verified_group
from swarm.round.stages import answer
from swarm.training.learner import Learner
from swarm.training.obtain import obtain
from tests.round.conftest import make_bench

TINY = catalogue.find("tiny")


def recipe_with(**tasks):
    return TINY.model_copy(update={"tasks": TINY.tasks.model_copy(update=tasks)})


@pytest.fixture(scope="module")
def learner():
    return Learner.load(obtain("tiny", print), TINY.model, TINY.grpo, seed=1, device="cpu", threads=1)


def sampled(practice, most=1000):
    """Practise as much as there is to do."""
    piece = practice.while_waiting()
    practice._piece_s = 0.0
    while piece():
        practice._piece_s = 0.0
    return practice.take(most)


def test_it_samples_as_many_fresh_groups_as_the_recipe_allows(learner):
    practice = Practice(learner, recipe_with(practice=12))
    groups, tried = sampled(practice)
    assert tried == 12 and 0 < len(groups) <= 12
    assert practice.take(1000) == ([], 0), "what was taken is gone"
    again, tried = sampled(practice)
    assert tried == 12
    both = [*groups, *again]
    assert len({(group.prompt, group.completions) for group in both}) == len(both), "nothing is sampled twice"
    for group in both:
        assert group.own and not group.rescored and len(group.completions) == TINY.stages.answer.samples
        assert min(group.advantages) < 0 < max(group.advantages)
    assert learner.update(both).mean_ratio_drift < 1e-5, "as the present weights sampled them"


def test_what_there_is_no_time_for_is_forgotten(learner):
    practice = Practice(learner, recipe_with(practice=12))
    groups, tried = sampled(practice, most=1)
    assert len(groups) == 1 and tried == 12
    assert practice.take(1000) == ([], 0)


def test_it_begins_when_the_wait_has_lasted_as_long_as_a_group_takes(learner, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(practice_module.time, "monotonic", lambda: now[0])
    practice = Practice(learner, recipe_with(practice=4))
    monkeypatch.setattr(practice, "_sample", lambda: setattr(practice, "_tried", practice._tried + 1))
    practice._piece_s = 3.0
    piece = practice.while_waiting()
    now[0] += 2.9
    assert not piece()
    now[0] += 0.2
    assert piece() and piece()
    assert not practice.while_waiting()(), "each wait by itself"


def test_where_nobody_knows_the_truth_there_is_nothing_to_practise(learner):
    sources = (ItemSource(items=(Item(prompt="nus"),)),)
    groups, tried = sampled(Practice(learner, recipe_with(sources=sources, practice=3)))
    assert (groups, tried) == ([], 3)


def test_answers_that_are_all_alike_teach_nothing(learner):
    task = practice_module.derive_tasks(TINY, b"seed", 1)[0]
    [completions] = answer(learner, TINY, [task], b"seed")
    assert verified_group(learner, TINY, task, [completions[0]] * 4) is None
    rewards = [verify(TINY, task, one.text) for one in completions]
    group = verified_group(learner, TINY, task, completions)
    assert (group is None) == (len(set(rewards)) == 1)


def test_a_fast_peer_learns_more_and_shows_no_more():
    """The slow one begins when the fast one has practised twice."""
    bench = make_bench(2)
    fast, slow = bench.drivers
    practice = Practice(bench.learners[fast], bench.recipe)
    bench.drivers[fast]._practice = practice
    practised, sample, tasks = threading.Event(), practice._sample, bench.drivers[slow]._tasks

    def count():
        sample()
        practice._piece_s = 0.0
        if practice._tried >= 2:
            practised.set()

    def late(*arguments):
        assert practised.wait(30)
        return tasks(*arguments)

    practice._sample, bench.drivers[slow]._tasks = count, late
    outcomes = bench.play()
    report, other = outcomes[fast].report, outcomes[slow].report
    assert report.practised >= 2 and report.seconds["practice"] > 0
    assert other.practised == 0 and "practice" not in other.seconds
    assert report.update["steps"] == 1 and report.update["groups"] == report.groups_trained
    assert report.rollouts_published == other.rollouts_published, "practice is nobody else's business"
    assert other.rollouts_fetched == report.rollouts_published
    assert practice.take(1000) == ([], 0), "it went into the update"
