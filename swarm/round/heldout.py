"""Held-out accuracy: greedy answers to questions that no round trains on."""

import time

from swarm.events import Emitter
from swarm.journal.journal import Journal
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import heldout_tasks
from swarm.recipe.verifiers import has_truth, verify
from swarm.round.stages import encode_prompt
from swarm.training.learner import Learner


def measure(journal: Journal, recipe: Recipe, learner: Learner, ordinal: int, emit: Emitter) -> None:
    """Measure once after `ordinal` rounds and write it down; nothing where no held-out question has a truth."""
    if any(done == ordinal for done, _, _ in journal.heldout()):
        return
    tasks = [task for task in heldout_tasks(recipe) if has_truth(recipe, task)]
    if not tasks:
        return
    emit("measuring", questions=len(tasks))
    prompts = [encode_prompt(learner, recipe, answer_prompt(recipe, task)) for task in tasks]
    texts = learner.greedy(prompts, recipe.stages.answer.max_new_tokens)
    correct = sum(verify(recipe, task, text) >= 0.5 for task, text in zip(tasks, texts, strict=True))
    journal.note_heldout(ordinal, time.time(), correct, len(tasks))
    emit("heldout", ordinal=ordinal, correct=correct, of=len(tasks))
