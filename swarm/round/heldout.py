"""Held-out accuracy: greedy answers to questions that no round trains on."""

import time
from collections.abc import Sequence

from swarm.events import Emitter
from swarm.journal.journal import Journal
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task, heldout_tasks
from swarm.recipe.verifiers import has_truth, verify
from swarm.round.stages import encode_prompt
from swarm.training.learner import Learner


def measure(journal: Journal, recipe: Recipe, learner: Learner, ordinal: int, emit: Emitter) -> None:
    """Measure once after `ordinal` rounds and write it down; nothing where no held-out question has a truth."""
    tasks = questions(recipe)
    if not tasks or any(done == ordinal for done, _, _ in journal.heldout()):
        return
    emit("measuring", questions=len(tasks))
    right = answers(learner, recipe, tasks)
    journal.note_heldout_answers("peer", ordinal, right)
    journal.note_heldout(ordinal, time.time(), sum(right), len(right))
    emit("heldout", ordinal=ordinal, correct=sum(right), of=len(right))


def questions(recipe: Recipe) -> list[Task]:
    """Those that code can check."""
    return [task for task in heldout_tasks(recipe) if has_truth(recipe, task)]


def answers(learner: Learner, recipe: Recipe, tasks: Sequence[Task]) -> list[bool]:
    """Which of the tasks are answered right, greedily."""
    prompts = [encode_prompt(learner, recipe, answer_prompt(recipe, task)) for task in tasks]
    texts = learner.greedy(prompts, recipe.stages.answer.max_new_tokens)
    return [verify(recipe, task, text) >= 0.5 for task, text in zip(tasks, texts, strict=True)]
