"""swarm seal FILE: seal the answers of a task file, so that they can be audits that no judge can look up."""

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from swarm.errors import SwarmError
from swarm.identity.files import write_private
from swarm.recipe.load import read_items
from swarm.recipe.seals import seal_of
from swarm.round.records import OpenedItem


def seal(items: Sequence[dict[str, str]]) -> tuple[list[dict[str, str]], list[OpenedItem]]:
    """Items of prompt and answer as prompt and seal, and what opens them, in the same order."""
    openings = []
    for item in items:
        salt = secrets.token_hex(16)
        sealed = seal_of(item["prompt"], item["answer"], salt)
        openings.append(OpenedItem(seal=sealed, salt=salt, answer=item["answer"]))
    shown = [{"prompt": item["prompt"], "seal": opened.seal} for item, opened in zip(items, openings, strict=True)]
    return shown, openings


def seal_file(tasks: Path, sealed: Path, openings: Path) -> int:
    """Write the sealed tasks and, of mode 0600, the openings; returns how many there are.

    Raises:
        SwarmError: the file is none of tasks, an answer is missing, or a file is there already.
    """
    for path in (sealed, openings):
        if path.exists():
            raise SwarmError(f"{path} exists already; move it away, or name another file: its seals may be in use")
    items = read_items(tasks, "swarm seal")
    missing = next((item["prompt"] for item in items if not isinstance(item.get("answer"), str)), None)
    if missing is not None:
        raise SwarmError(f"{tasks}: the task {missing[:60]!r} has no answer in words; only an answer can be sealed")
    shown, secret = seal(items)
    write_private(openings, "".join(f"{opened.model_dump_json()}\n" for opened in secret).encode())
    sealed.write_text("".join(f"{json.dumps(item)}\n" for item in shown), encoding="utf-8")
    return len(items)


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="swarm seal", description=__doc__)
    p.add_argument("tasks", type=Path, metavar="FILE", help='JSON lines {"prompt": "...", "answer": "..."}')
    p.add_argument("--out", type=Path, help="the sealed tasks, for the recipe (default: beside FILE)")
    p.add_argument("--openings", type=Path, help="the answers, for you alone (default: beside FILE)")
    options = p.parse_args(arguments)
    sealed = options.out or options.tasks.with_suffix(".sealed.jsonl")
    openings = options.openings or options.tasks.with_suffix(".openings.jsonl")
    try:
        count = seal_file(options.tasks, sealed, openings)
    except (SwarmError, OSError) as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    print(f"{count} tasks are sealed in {sealed}: name it in the recipe (tasks.sources, jsonl)")
    print(f"their answers are in {openings}: keep it, and start your peer with --openings {openings}")
    return 0
