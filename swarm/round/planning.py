"""The memory plan of a peer, made before its first round."""

import json
from dataclasses import asdict

from swarm.events import Emitter
from swarm.journal.journal import Journal
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import derive_tasks
from swarm.round.stages import encode_prompt
from swarm.training.learner import Learner

SAMPLE = 8
"""Questions whose longest stands for all."""


def make_plan(journal: Journal, recipe: Recipe, learner: Learner, emit: Emitter) -> None:
    """Choose how updates fit into memory, and write down what was chosen and why."""
    tasks = derive_tasks(recipe, b"memory plan", SAMPLE)
    question = max(len(encode_prompt(learner, recipe, answer_prompt(recipe, task))) for task in tasks)
    answer, critique, revise = recipe.stages.answer, recipe.stages.critique, recipe.stages.revise
    # A critique quotes an answer, a revision also what every judge said of it.
    read = question + answer.max_new_tokens + recipe.sharing.judges * critique.max_new_tokens
    prompt, new = max(
        (question, answer.max_new_tokens),
        (question + answer.max_new_tokens, critique.max_new_tokens),
        (read, revise.max_new_tokens),
        key=sum,
    )
    plan = asdict(learner.plan(prompt, new, max(answer.samples, critique.samples, revise.samples)))
    journal.put("memory_plan", json.dumps(plan))
    emit("memory_plan", **plan)
