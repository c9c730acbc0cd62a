"""What a peer's model does while the peer waits for slower ones: it practises.

Fresh tasks, sampled by the present weights, for the next update of this peer and for nobody else: they are not
published, earn no points, and hold up nobody by more than the piece of work that is under way. So a fast peer learns as
much as its machine allows in a swarm whose rounds are as long as a laptop needs. The round's own tasks cannot be worked
at beforehand: they follow from a block that is not there yet.
"""

import os
import time
from collections.abc import Callable

from swarm.judging.scores import advantages, is_informative
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task, derive_tasks
from swarm.recipe.verifiers import has_truth, verify
from swarm.round.stages import answer, encode_prompt
from swarm.training.learner import Completion, Learner, TrainingGroup


class Practice:
    """The groups that a peer has sampled for itself since its last update.

    All are of the weights that the next update finds, but for what a merge or a measurement in between has changed;
    their behaviour log-probabilities say by how much.
    """

    def __init__(self, learner: Learner, recipe: Recipe) -> None:
        self._learner = learner
        self._recipe = recipe
        self._secret = os.urandom(16)
        self._sampled = 0
        self._tried = 0
        """Since the last update; some of them have no spread, or no truth."""
        self._groups: list[TrainingGroup] = []
        self._piece_s = 0.0

    def while_waiting(self) -> Callable[[], bool]:
        """For one wait: samples a group and says so, or says that there is nothing to do.

        It begins when the wait has lasted as long as a group takes, so that peers that are equally fast, and wait for
        each other only shortly, do not lengthen each other's waits.
        """
        begun = time.monotonic()

        def piece() -> bool:
            if self._tried >= self._recipe.tasks.practice or time.monotonic() - begun < self._piece_s:
                return False
            self._sample()
            return True

        return piece

    def take(self, most: int) -> tuple[list[TrainingGroup], int]:
        """Up to so many groups for an update, and how many were sampled since the last one; the rest is forgotten."""
        groups, tried = self._groups[:most], self._tried
        self._groups, self._tried = [], 0
        return groups, tried

    def _sample(self) -> None:
        started = time.monotonic()
        self._tried += 1
        self._sampled += 1
        seed = self._secret + self._sampled.to_bytes(8, "big")
        [task] = derive_tasks(self._recipe, seed, 1)
        if has_truth(self._recipe, task):
            [completions] = answer(self._learner, self._recipe, [task], seed)
            group = verified_group(self._learner, self._recipe, task, completions)
            if group is not None:
                self._groups.append(group)
        self._piece_s = time.monotonic() - started


def verified_group(learner: Learner, recipe: Recipe, task: Task, completions: list[Completion]) -> TrainingGroup | None:
    """A peer's own answers to a task that code can check, as an update takes them; None where they are all alike."""
    rewards = [verify(recipe, task, one.text) for one in completions]
    if not is_informative(rewards):
        return None
    return TrainingGroup(
        prompt=encode_prompt(learner, recipe, answer_prompt(recipe, task)),
        completions=tuple((one.tokens, one.logprobs) for one in completions),
        advantages=tuple(advantages(rewards, scale=recipe.grpo.scale_advantages)),
        own=True,
        temperature=recipe.stages.answer.temperature,
    )
