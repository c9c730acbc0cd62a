"""The recipe's author opens sealed answers: of the items that are audits of a round, after everybody has committed."""

from collections.abc import Collection, Iterable
from pathlib import Path

from pydantic import ValidationError

from swarm.errors import SwarmError
from swarm.identity.files import read_private
from swarm.recipe.schema import Recipe
from swarm.recipe.seals import is_audit
from swarm.recipe.tasks import Task
from swarm.round.evidence import is_opening
from swarm.round.records import OpenedItem

MAX_OPENINGS = 512
"""In one round."""


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
