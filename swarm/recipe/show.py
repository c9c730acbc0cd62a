"""swarm recipe FILE: check a recipe, and print it as it resolves, with its hash and a few of its tasks."""

import argparse
import sys
from collections.abc import Sequence

import yaml

from swarm.errors import SwarmError
from swarm.recipe import catalogue
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.tasks import derive_tasks


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="swarm recipe", description="Check a recipe and print what it resolves to.")
    p.add_argument("recipe", help="a recipe file, or the name of a shipped one")
    p.add_argument("--tasks", type=int, default=3, metavar="N", help="example tasks to print (default: 3)")
    p.add_argument("--model", action="store_true", help="print the recipe's model and nothing else")
    options = p.parse_args(arguments)
    try:
        recipe = catalogue.find(options.recipe)
    except SwarmError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    if options.model:
        print(recipe.model.id)
        return 0
    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")
    print(f"# hash: {recipe.hash().hex()}")
    for task in derive_tasks(recipe, b"example", options.tasks):
        print(f"# task: {answer_prompt(recipe, task)!r} -> {task.entry.get('answer')!r}")
    return 0
