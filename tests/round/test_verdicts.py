"""How verdicts are read, with the real tiny model."""

import pytest

from swarm.recipe import catalogue
from swarm.recipe.tasks import derive_tasks
from swarm.round.stages import MAX_RAW, last_yes_or_no, verdicts
from swarm.training.learner import Learner
from swarm.training.obtain import obtain

TINY = catalogue.find("tiny")


def recipe_of(method):
    judge = TINY.judge.model_copy(update={"method": method, "statement": "is it {answer}?"})
    return TINY.model_copy(update={"judge": judge})


@pytest.fixture(scope="module")
def learner():
    return Learner.load(obtain("tiny", print), TINY.model, TINY.grpo, seed=1, device="cpu", threads=1)


@pytest.fixture(scope="module")
def task():
    return derive_tasks(TINY, b"verdicts", 1)[0]


@pytest.mark.parametrize("method", ["likelihood", "yes_no", "text"])
def test_a_verdict_depends_on_what_is_extracted_and_on_the_critique_that_was_read(learner, task, method, monkeypatch):
    prompts = []
    read = {"greedy": learner.greedy, "log_likelihood": learner.log_likelihood}

    def greedy(asked, limit):
        prompts.extend(asked)
        return read["greedy"](asked, limit)

    def likelihood(pairs):
        prompts.extend(prefix for prefix, _ in pairs)
        return read["log_likelihood"](pairs)

    monkeypatch.setattr(learner, "greedy", greedy)
    monkeypatch.setattr(learner, "log_likelihood", likelihood)
    right = task.entry["answer"]
    asked = [(task, right, None), (task, right, None), (task, "", None), (task, right, "no it is cat")]
    first, same, nothing, after = verdicts(learner, recipe_of(method), asked)
    assert first == same and nothing == -MAX_RAW
    assert len(set(prompts)) == 2, "equal questions are asked once, and a critique makes another one"
    assert all(-MAX_RAW <= value <= MAX_RAW for value in (first, after))
    if method == "text":
        assert {first, after} <= {1.0, 0.0, -1.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", 1),
        ("No.", -1),
        ("Yes? Let me see: no", -1),
        ("no, I mean YES!", 1),
        ("nobody knows yesterday", 0),
        ("", 0),
    ],
)
def test_what_a_text_says(text, said):
    assert last_yes_or_no(text) == said
