"""python -m bench.judging: every adversary at every share, simulated; written to bench/results/judging.md.

Finished simulations are kept as JSON lines, so that a run which was cut off goes on where it ended. The part with a
real model is `python -m bench.judges`; its table is below the simulated one.
"""

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.jobs import finish, rows_of
from bench.machine import describe
from swarm.simulate.judging import Settings, simulate
from swarm.simulate.judging_peers import ADVERSARIES

RESULTS = Path(__file__).parent / "results"
RESULT = RESULTS / "judging.md"
LINES = RESULTS / "judging.jsonl"
SHARES = (0.1, 0.2, 0.3, 0.4)
Row = dict[str, Any]
Case = tuple[str, float, int, int]
"""Adversary ("" for none), share, peers, seed."""


def cases(adversaries: Iterable[str], sizes: Sequence[int], seeds: int) -> list[Case]:
    """The small swarms and the largest shares first: what a run with little time should not leave out."""
    kinds = [("", 0.0), *((adversary, share) for share in reversed(SHARES) for adversary in adversaries)]
    return [(*kind, size, seed) for size in sorted(sizes) for kind in kinds for seed in range(seeds)]


def run(case: Case, rounds: int) -> Row:
    """One simulation."""
    adversary, share, peers, seed = case
    started = time.process_time()
    result = simulate(Settings(peers, adversary or "clique", share, rounds, seed)).as_json()
    return {**result, "adversary": adversary, "cpu_s": round(time.process_time() - started, 1)}


def key(row: Row) -> Case:
    return row["adversary"], row["share"], row["peers"], row["seed"]


def report(rows: Sequence[Row], rounds: int, command: str) -> str:
    """All results as Markdown."""
    found: dict[tuple[str, float, int], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["adversary"], row["share"], row["peers"]].append(row)
    seeds = {len(group) for group in found.values()}
    lines = [
        "# Judging under attack, simulated",
        "",
        f"`{command}`",
        "",
        describe().rstrip(),
        f"- {rounds} rounds, {min(seeds)} to {max(seeds)} seeds per row (0 to {max(seeds) - 1}); the mean, and in "
        "brackets the worst seed",
        "- rules beside the jury, on the same records: mean and majority of the raw verdicts; accuracy beside it: the "
        "ceiling is that of a rule which knows who is honest and what each score means",
        "",
        *goals(found),
        "",
    ]
    for peers in sorted({size for _, _, size in found}):
        lines += [
            f"## {peers} peers",
            "",
            "| adversary | share | Kendall | mean | majority | accuracy | ceiling | mean | majority "
            "| honest points per work | adversary | mean: honest | adversary | majority: honest | adversary |",
            "|" + "---|" * 15,
        ]
        lines += [_line(kind, group) for kind, group in sorted(found.items()) if kind[2] == peers]
        lines.append("")
    return "\n".join(lines)


def goals(found: dict[tuple[str, float, int], list[Row]]) -> list[str]:
    """Which goals hold at 40%, in one sentence each."""
    lines = ["| at 40% | goal | jury | mean | majority |", "|---|---|---|---|---|"]
    worst = {kind: group for kind, group in found.items() if kind[1] == 0.4}
    base = {size: _mean(group, "jury_accuracy") for (_, share, size), group in found.items() if share == 0}
    if not worst or not base:
        return []

    def held(check: Any) -> str:
        return f"{sum(check(kind, group) for kind, group in worst.items())} of {len(worst)}"

    def checks(rule: str) -> list[str]:
        return [
            held(lambda kind, group: _mean(group, "kendall", rule) >= 0.9),
            held(lambda kind, group: _mean(group, "jury_accuracy", rule) >= base[kind[2]] - 0.03),
            held(lambda kind, group: _paid(group, "adversary", rule) <= _paid(group, "honest", rule)),
        ]

    names = ("Kendall at least .9", "accuracy within .03 of no adversary", "adversaries earn no more per work")
    columns = [checks(rule) for rule in ("", "mean", "majority")]
    lines += [
        f"| rows that hold | {name} | {' | '.join(column[index] for column in columns)} |"
        for index, name in enumerate(names)
    ]
    missed = [
        f"{adversary} among {size}: {_mean(group, 'kendall'):.2f}, {_mean(group, 'jury_accuracy'):.3f}"
        for (adversary, _, size), group in sorted(worst.items())
        if _mean(group, "kendall") < 0.9 or _mean(group, "jury_accuracy") < base[size] - 0.03
    ]
    return [*lines, "", f"Short of a goal (Kendall, accuracy): {'; '.join(missed) or 'none'}."]


def _line(kind: tuple[str, float, int], group: Sequence[Row]) -> str:
    adversary, share, _ = kind
    ranks = [_spread(group, "kendall", rule) for rule in ("", "mean", "majority")]
    labels = [_spread(group, "jury_accuracy", rule) for rule in ("", "mean", "majority")]
    labels.insert(1, f"{_mean(group, 'ceiling'):.3f}")
    paid = [f"{_paid(group, who, rule):.3f}" for rule in ("", "mean", "majority") for who in ("honest", "adversary")]
    if not share:
        paid = [value if index % 2 == 0 else "-" for index, value in enumerate(paid)]
    return f"| {adversary or 'none'} | {share:.0%} | {' | '.join(ranks + labels + paid)} |"


def _values(group: Sequence[Row], name: str, rule: str = "") -> list[float]:
    return [
        float("nan") if value is None else value
        for row in group
        for value in ((row["naive"][rule] if rule else row)[name],)
    ]


def _mean(group: Sequence[Row], name: str, rule: str = "") -> float:
    return statistics.fmean(_values(group, name, rule))


def _spread(group: Sequence[Row], name: str, rule: str) -> str:
    return f"{_mean(group, name, rule):.3f} ({min(_values(group, name, rule)):.3f})"


def _paid(group: Sequence[Row], who: str, rule: str) -> float:
    values = [(row["naive"][rule] if rule else row)["points_per_work"][who] or 0.0 for row in group]
    return statistics.fmean(values)


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.judging", description=__doc__)
    p.add_argument("--adversaries", nargs="*", default=sorted(ADVERSARIES), choices=sorted(ADVERSARIES))
    p.add_argument("--peers", type=int, nargs="*", default=[20, 100])
    p.add_argument("--rounds", type=int, default=60)
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    p.add_argument("--minutes", type=float, default=60.0, help="begin no simulation later than this")
    p.add_argument("--lines", type=Path, default=LINES, help="finished simulations, one JSON object a line")
    p.add_argument("--out", type=Path, default=RESULT)
    options = p.parse_args()
    wanted = cases(options.adversaries, options.peers, options.seeds)

    def finished() -> list[Row]:
        return [row for row in rows_of(options.lines) if row["rounds"] == options.rounds and key(row) in wanted]

    done = {key(row) for row in finished()}
    todo = [case for case in wanted if case not in done]
    finish(todo, partial(run, rounds=options.rounds), options.lines, jobs=options.jobs, minutes=options.minutes)
    rows = finished()
    command = f"python -m bench.judging --rounds {options.rounds} --seeds {options.seeds}"
    options.out.write_text(report(rows, options.rounds, command))
    print(f"{len(rows)} of {len(wanted)} simulations; written to {options.out}")
    return 0 if len(rows) == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
