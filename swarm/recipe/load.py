"""From a YAML file, or from canonical bytes that a peer sent, to a recipe that is complete and checked."""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from swarm.errors import SwarmError
from swarm.recipe.nearest import nearest
from swarm.recipe.schema import MAX_ITEMS, Recipe, Section

MAX_RECIPE_BYTES = 32 * 2**20


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file and the JSONL files beside it.

    Raises:
        SwarmError: naming file, line and path of the key, what is allowed, and the nearest valid name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SwarmError(f"there is no recipe {path}{_recipes_beside(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SwarmError(f"the recipe {path} cannot be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SwarmError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise SwarmError(f"{path} holds no recipe: its top level must be keys such as name, tasks, prompts")
    lines = _lines(node)
    for index, source in enumerate(_source_list(data)):
        if isinstance(source, dict) and "jsonl" in source:
            where = f"{path}, line {lines.get(('tasks', 'sources', index, 'jsonl'), '?')}"
            source["items"] = read_items(path.parent / str(source.pop("jsonl")), where)
    try:
        return Recipe.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise SwarmError(_explain(error, str(path), lines)) from error
    except (TypeError, ValueError) as error:  # YAML knows values, such as dates, that JSON does not
        raise SwarmError(f"{path} holds a value that a recipe cannot have: {error}") from error


def parse_recipe(canonical: bytes) -> Recipe:
    """Read a recipe as another peer sends it; the caller compares its hash with the registry's.

    Raises:
        SwarmError: the bytes are not a valid recipe in canonical form.
    """
    if len(canonical) > MAX_RECIPE_BYTES:
        raise SwarmError(f"the swarm's recipe has {len(canonical)} bytes, more than the {MAX_RECIPE_BYTES} allowed")
    try:
        recipe = Recipe.model_validate_json(canonical)
    except ValidationError as error:
        raise SwarmError(_explain(error, "the swarm's recipe", {})) from error
    if recipe.canonical() != canonical:
        raise SwarmError(
            "the swarm's recipe is not in canonical form; its founder runs another version of this program"
        )
    return recipe


def read_items(path: Path, where: str) -> list[dict[str, Any]]:
    """The items of a JSONL file of tasks; `where` is who asks for it, for the sentence of an error."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SwarmError(f"{where}: the task file {path} cannot be read: {error}") from error
    if len(lines) > MAX_ITEMS:
        raise SwarmError(f"{where}: {path} has {len(lines)} lines; at most {MAX_ITEMS} are allowed")
    items = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            raise SwarmError(f"{path}, line {number}: not JSON: {error.msg}") from error
        if not isinstance(item, dict) or not isinstance(item.get("prompt"), str):
            raise SwarmError(f'{path}, line {number}: a task looks like {{"prompt": "...", "answer": "..."}}')
        items.append(item)
    if not items:
        raise SwarmError(f"{where}: {path} holds no task")
    return items


def _source_list(data: dict[str, Any]) -> list[Any]:
    tasks = data.get("tasks")
    sources = tasks.get("sources") if isinstance(tasks, dict) else None
    return sources if isinstance(sources, list) else []


def _lines(node: yaml.Node | None, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], int]:
    """The 1-based line of each key path in the file."""
    found: dict[tuple[str | int, ...], int] = {}
    if node is None:
        return found
    found[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found.update(_lines(value, (*path, key.value)))
            found[(*path, key.value)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found.update(_lines(value, (*path, index)))
    return found


def _explain(error: ValidationError, file: str, lines: dict[tuple[str | int, ...], int]) -> str:
    details = error.errors()
    first = min(details, key=lambda detail: (detail["type"] == "missing", len(detail["loc"])))
    location = _plain_location(first)
    line = next((lines[location[:end]] for end in range(len(location), 0, -1) if location[:end] in lines), None)
    where = file + (f", line {line}" if line else "") + (f": {'.'.join(map(str, location))}" if location else "")
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{where}: {_say(first, location)}{more}"


def _plain_location(detail: ErrorDetails) -> tuple[str | int, ...]:
    """The key path as the file has it: pydantic adds the names of union members."""
    return tuple(part for part in detail["loc"] if not (isinstance(part, str) and (part[:1].isupper() or "[" in part)))


def _say(detail: ErrorDetails, location: tuple[str | int, ...]) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return f"there is no such key{nearest(str(location[-1]), _keys_at(location[:-1]))}"
        case "missing":
            return "this key is missing"
        case "value_error" | "assertion_error":
            return str(detail["ctx"]["error"])
        case _:
            return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, not {str(detail['input'])[:60]!r}"


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    section: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part) if isinstance(section, type) and issubclass(section, Section) else None
        if field is None:
            return []
        section = _section_in(field.annotation)
    if section is None:
        return ["dataset", "config", "weight", "jsonl"]
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[Section] | None:
    """The one section that an annotation names; None for the union of task sources."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = [section for part in getattr(annotation, "__args__", ()) if (section := _section_in(part))]
    return found[0] if len(found) == 1 else None


def _recipes_beside(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("recipes")
    names = [str(file) for file in sorted(folder.glob("*.yaml"))] if folder.is_dir() else []
    return nearest(str(path), names) if names else "; name a recipe file, such as recipes/arithmetic.yaml"
