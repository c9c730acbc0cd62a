"""The recipes that come with the program, by name."""

from pathlib import Path

from swarm.errors import SwarmError
from swarm.recipe.load import load_recipe
from swarm.recipe.nearest import nearest
from swarm.recipe.schema import Recipe

DEFAULT = "arithmetic"


def find(name_or_path: str) -> Recipe:
    """A recipe by the path of its file, or by the name of one that comes with the program.

    Raises:
        SwarmError: there is none, or it is not valid.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return load_recipe(path)
    shipped = {file.stem: file for file in sorted(_folder().glob("*.yaml"))}
    if name_or_path not in shipped:
        raise SwarmError(f"there is no recipe {name_or_path!r}{nearest(name_or_path, shipped)}")
    return load_recipe(shipped[name_or_path])


def _folder() -> Path:
    installed = Path(__file__).parent / "shipped"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"
