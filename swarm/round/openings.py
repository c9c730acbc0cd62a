"""The recipe's author opens sealed answers: of the items that are audits of a round, after everybody has committed."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from swarm.errors import SwarmError
from swarm.identity.files import read_private
from swarm.judging.canaries import canary
from swarm.recipe.schema import Recipe
from swarm.recipe.seals import is_audit, prompts_by_seal, seal_of
from swarm.recipe.tasks import Task
from swarm.round.assignment import draw
from swarm.round.records import OpenedItem, OpeningRecord

MAX_OPENINGS = 512
"""In one round."""


@dataclass(frozen=True)
class Planted:
    """An answer of the author's peer that catches judges of form, in the place of one sample of a group."""

    sample: int
    text: str


class Openings:
    """What the author of a recipe keeps to itself: salt and answer of each sealed item."""

    def __init__(self, items: Iterable[OpenedItem]) -> None:
        self._items = {item.seal: item for item in items}

    @classmethod
    def read(cls, path: Path, recipe: Recipe) -> "Openings":
        """From the file that `swarm seal` wrote.

        Raises:
            SwarmError: others may read it, it is no such file, or it opens nothing of this recipe.
        """
        lines = read_private(path, "the file of openings").decode(errors="replace").splitlines()
        try:
            items = [OpenedItem.model_validate_json(line) for line in lines if line.strip()]
        except ValidationError as error:
            raise SwarmError(f"{path} is no file of openings; `swarm seal` writes one") from error
        ours = [item for item in items if is_opening(recipe, item)]
        if not ours:
            raise SwarmError(f"{path} opens no sealed item of the recipe {recipe.name}; it belongs to another one")
        return cls(ours)

    def due(self, seed: bytes, share: float, tasks: Iterable[Task], spent: Collection[str]) -> list[OpenedItem]:
        """The openings of the judged tasks that are audits of a round, and of no round before."""
        seals = sorted({task.entry.get("seal") or "" for task in tasks} - set(spent))
        found = [self._items[seal] for seal in seals if seal in self._items]
        return [item for item in found if is_audit(item.salt, seed, share)][:MAX_OPENINGS]

    def canaries(
        self, seed: bytes, share: float, tasks: Sequence[Task], spent: Collection[str], samples: int
    ) -> dict[int, Planted]:
        """What the author's own peer answers in place of a sample, by task: only where the item will be opened."""
        due = {item.seal: item for item in self.due(seed, share, tasks, spent)}
        seals = ((place, task.entry.get("seal")) for place, task in enumerate(tasks))
        return {place: planted(due[seal], seed, samples) for place, seal in seals if seal in due}


def planted(opened: OpenedItem, seed: bytes, samples: int) -> Planted:
    """The canary of an audit: salt and seed draw it, so that everybody knows it once the item is opened."""
    number = draw(bytes.fromhex(opened.salt) + seed, "canary")
    return Planted(number % samples, canary(opened.answer, number // samples).text)


def is_opening(recipe: Recipe, opened: OpenedItem) -> bool:
    """Whether it opens a sealed item of the recipe."""
    prompt = prompts_by_seal(recipe).get(opened.seal)
    return prompt is not None and seal_of(prompt, opened.answer, opened.salt) == opened.seal


def spent_by(recipe: Recipe, records: Iterable[OpeningRecord]) -> set[str]:
    """The seals whose answers are known after some records, whatever round they were meant for."""
    return {opened.seal for record in records for opened in record.groups if is_opening(recipe, opened)}
