"""Merged weights are tried on fresh questions before they are kept."""

from collections.abc import Sequence

from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task
from swarm.round.benefit import Paired
from swarm.round.heldout import answers
from swarm.training.learner import Learner
from swarm.training.merging import Delta


class Trial:
    """Fresh questions, answered with the own weights and with the merged ones."""

    def __init__(self, learner: Learner, recipe: Recipe, tasks: Sequence[Task]) -> None:
        self._learner = learner
        self._recipe = recipe
        self._tasks = tasks
        self._before: list[bool] | None = None

    def before(self) -> list[bool]:
        """Which are right with the own weights; answered once, so it may be asked for before the merged are there."""
        if self._before is None:
            self._before = self._answers()
        return self._before

    def move(self, own: Delta, merged: Delta) -> Paired:
        """Move to the merged weights, and back if the answers get worse."""
        before = self.before()
        self._learner.move_to(merged)
        paired = Paired.of_answers(before, self._answers())
        if paired.falls:
            self._learner.move_to(own)
        return paired

    def _answers(self) -> list[bool]:
        return answers(self._learner, self._recipe, self._tasks)
