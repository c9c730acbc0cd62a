"""swarm simulate: scripted peers, some of whom cheat, judge each other by the real rules."""

import argparse
import json
import sys
from collections.abc import Sequence

from swarm.errors import SwarmError
from swarm.recipe import catalogue
from swarm.simulate.judging import DEFENCES, Result, Settings, simulate
from swarm.simulate.judging_measures import Measures
from swarm.simulate.judging_peers import ADVERSARIES


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="swarm simulate", description=__doc__)
    p.add_argument("--peers", type=int, default=20, metavar="N", help="(default: 20)")
    p.add_argument("--adversary", choices=sorted(ADVERSARIES), default="clique", help="(default: clique)")
    p.add_argument("--share", type=float, default=0.3, metavar="S", help="of the peers that cheat (default: 0.3)")
    p.add_argument("--rounds", type=int, default=30, metavar="R", help="(default: 30)")
    p.add_argument("--seed", type=int, default=0, metavar="X", help="(default: 0)")
    p.add_argument("--recipe", metavar="R", help="file or name of a recipe (default: sums with sealed answers)")
    p.add_argument(
        "--without", choices=DEFENCES, action="append", default=[], help="switch a defence off, to see what it is for"
    )
    p.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = p.parse_args(arguments)
    if options.peers < 3 or options.rounds < 1 or not 0 <= options.share < 1:
        p.error("it takes 3 peers, 1 round and a share from 0 to below 1")
    try:
        recipe = catalogue.find(options.recipe) if options.recipe else None
        result = simulate(
            Settings(
                options.peers,
                options.adversary,
                options.share,
                options.rounds,
                options.seed,
                recipe,
                frozenset(options.without),
            )
        )
    except SwarmError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result.as_json()) if options.json else table(result))
    return 0


def table(result: Result) -> str:
    """A result for the eye."""
    head = f"{'rule':<10}{'kendall':>9}{'accuracy':>10}{'honest/work':>13}{'adversary/work':>16}"
    rows = [_row("jury", result.real), *(_row(name, measures) for name, measures in result.naive.items())]
    return "\n".join([head, *rows])


def _row(name: str, measures: Measures) -> str:
    share = measures.points_per_work
    values = [(measures.kendall, 9), (measures.jury_accuracy, 10), (share.honest, 13), (share.adversary, 16)]
    return f"{name:<10}" + "".join(f"{'-' if v is None else format(v, '.3f'):>{width}}" for v, width in values)
