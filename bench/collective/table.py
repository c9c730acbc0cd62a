"""The results as Markdown, with the goal beside them."""

import itertools
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.collective.arms import ARMS, SIZES
from bench.machine import describe

RESULT = Path(__file__).parents[1] / "results" / "collective.md"
T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36)
"""Student's t for a 95% interval by degrees of freedom, from 1."""

WAY = (0.5, 0.75, 0.9, 1.0)
"""Points of the way from the accuracy before the first round to that of one peer after the last."""
SECONDS = ("sample", "update", "merge", "validate")

Result = dict[str, Any]
Setting = tuple[str, int, float]
"""Arm, number of peers, learning rate."""


def read(files: Sequence[Path]) -> list[Result]:
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def write(files: Sequence[Path]) -> str:
    """Write the table of all complete runs in the files, and return it."""
    by_size: dict[tuple[str, int, bool], list[Result]] = defaultdict(list)
    for result in read(files):
        if result["complete"]:
            by_size[result["model"], result["rounds"], not result["device"].startswith("CPU")].append(result)
    lines = [
        "# What peers give each other",
        "",
        "`python -m bench.collective --model MODEL` for the runs, `python -m bench.collective --table FILES` for this "
        "page.",
        "",
        describe().rstrip(),
        "- N peers are N sets of weights and optimiser states over one model in one process: the real sampler, update, "
        "encoding and merging,",
        "  no network, no critiques, no revisions. Each peer samples the same number of completions in every arm.",
        "- 96 held-out questions, greedy, of all kinds of tasks; ± is half of a 95% interval over the seeds (Student's "
        "t), absent with one.",
        "- 'Against alone' is the mean difference at the end to a peer alone at its best rate with the same seed "
        "(for peers with tasks or models of their own: to such peers alone); 'in its time' is the accuracy at the "
        "moment at which that peer is done, by seconds of sampling, update, merge and validation, if both ran on one "
        "kind of machine.",
        "- Goal: what one peer at its best rate comes to in the end, first after R rounds ('rounds to its accuracy' in "
        "its own row), is reached in R/3 by 4 peers and in R/4 by 8, and never less than alone with a poisoner.",
        "- Rates were swept on the first seeds; the best one of each arm ran on more (column 'seeds').",
        "",
    ]
    for (model, rounds, _), results in sorted(by_size.items()):
        lines += _section(model, rounds, results)
    for model in sorted(set(SIZES) - {model for model, _, _ in by_size}):
        lines += [f"## {model}", "", "Not measured.", ""]
    lines += ["## On a GPU", "", "Not measured.", ""] if not any(on_gpu for _, _, on_gpu in by_size) else []
    text = "\n".join(lines)
    RESULT.write_text(text)
    return text


def best_rates(results: Sequence[Result]) -> dict[tuple[str, int, str, int], float]:
    """The rate with the best held-out accuracy at the end, by model, rounds, arm and number of peers."""
    found: dict[tuple[str, int, str, int], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result["complete"]:
            key = result["model"], result["rounds"], result["arm"], result["peers"]
            found[key][result["learning_rate"]].append(_final(result))
    return {key: max(rates, key=lambda rate: _standing(rates[rate])) for key, rates in found.items()}


def _section(model: str, rounds: int, results: Sequence[Result]) -> Iterator[str]:
    runs: dict[Setting, list[Result]] = defaultdict(list)
    for result in results:
        runs[result["arm"], result["peers"], result["learning_rate"]].append(result)
    devices = ", ".join(sorted({result["device"] for result in results}))
    yield f"## {model}, {rounds} rounds of {results[0]['groups']} groups of 8 ({devices})"
    yield ""
    if (solo := _best(runs, "alone", 1)) is not None:
        yield f"One peer at its best rate ({solo[2]:g}) reaches {_mean(runs[solo], _final):.2f} in {rounds} rounds."
        yield ""
    yield (
        "| arm | peers | rate | seeds | held-out at the end | against alone | in its time | cumulative reward "
        "| rounds to its accuracy | goal | rows trained | seconds: sample, update, merge, validate | refused |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for arm, peers in dict.fromkeys((arm, peers) for arm, peers, _ in runs):
        best = _best(runs, arm, peers)
        alone = _best(runs, *ARMS[arm].solo)
        for setting in sorted(key for key in runs if key[:2] == (arm, peers)):
            yield _row(setting, runs[setting], runs[alone] if alone else [], best=setting == best)
    yield ""
    yield from _pace(runs)
    yield from _by_model(runs)
    yield "The best rate of each arm is in bold. Arms:"
    yield ""
    for arm in dict.fromkeys(arm for arm, _, _ in runs):
        yield f"- {arm}: {ARMS[arm].about}"
    yield ""
    for note in dict.fromkeys(result["note"] for result in results if "note" in result):
        noted = [result for result in results if result.get("note") == note]
        named = sorted(
            f"{one['arm']}, {one['peers']} peers, {one['learning_rate']:g}, seed {one['seed']}" for one in noted
        )
        yield f"Of {'; '.join(named)}: {note}."
        yield ""


def _row(setting: Setting, results: Sequence[Result], alone: Sequence[Result], *, best: bool) -> str:
    arm, peers, rate = setting
    share = {4: 3, 8: 4}.get(peers)
    target = _mean(alone, _final) if alone else math.inf
    takes = _reached(alone, target) if alone else None
    if ARMS[arm].poison:
        goal = "not below alone"
    else:
        goal = f"{takes / share:.0f}" if takes and share else ""
    refused: dict[str, int] = defaultdict(int)
    for result in results:
        for reason, count in result["refused"].items():
            refused[reason] += count
    shared = results if alone and alone[0]["arm"] != arm else []
    pairs = [(one, other) for one in shared for other in alone if one["seed"] == other["seed"]]
    timed = [_in_time(one, _seconds(other)) for one, other in pairs if one["device"] == other["device"]]
    cells = [
        f"**{arm}**" if best else arm,
        str(peers),
        f"{rate:g}",
        str(len(results)),
        _interval([_final(result) for result in results]),
        _interval([_final(one) - _final(other) for one, other in pairs], sign="+") if pairs else "",
        f"{statistics.fmean(timed):.2f}" if timed else "",
        _interval([_cumulative(result) for result in results]),
        f"{reached:.0f}" if (reached := _reached(results, target)) is not None else "not reached",
        goal,
        f"{_mean(results, lambda result: result['trained_rows']):.0f}",
        ", ".join(f"{_mean(results, lambda result, what=what: result['seconds'][what]):.1f}" for what in SECONDS),  # type: ignore[misc]
        ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items())),
    ]
    return f"| {' | '.join(cells)} |"


def _pace(runs: dict[Setting, list[Result]]) -> Iterator[str]:
    """Rounds to several points of the way that one peer goes: its own, and those of each arm that has its tasks."""
    solo = _best(runs, "alone", 1)
    if solo is None:
        return
    start, end = _mean(runs[solo], lambda result: result["curve"][0][1]), _mean(runs[solo], _final)
    targets = [start + share * (end - start) for share in WAY]
    alone = [_soonest(runs, "alone", 1, target) for target in targets]
    yield "Rounds to several points of one peer's way (between measured rounds the mean curve goes straight), each arm"
    yield "at the rate that is first there, of those with most seeds, and how many times sooner than one peer. The goal"
    yield "is 3 times with 4 peers and 4 times with 8:"
    yield ""
    named = (f"{share:.0%} of the way ({target:.2f})" for share, target in zip(WAY, targets, strict=True))
    yield f"| arm | peers | {' | '.join(named)} |"
    yield "|---|---|" + "---|" * len(WAY)
    yield f"| alone | 1 | {' | '.join('never' if at is None else f'{at:.1f}' for at in alone)} |"
    for arm, peers in dict.fromkeys((arm, peers) for arm, peers, _ in runs):
        if ARMS[arm].solo == ("alone", 1) and peers > 1:
            cells = [_times(_soonest(runs, arm, peers, target), at) for target, at in zip(targets, alone, strict=True)]
            yield f"| {arm} | {peers} | {' | '.join(cells)} |"
    yield ""


def _by_model(runs: dict[Setting, list[Result]]) -> Iterator[str]:
    """The accuracy of each starting model at the end, where peers have several."""
    mixed = {key: [one for one in runs[key] if "finals" in one] for key in sorted(runs) if ARMS[key[0]].models > 1}
    mixed = {key: results for key, results in mixed.items() if results}
    if not mixed:
        return
    yield "Held-out at the end by starting model, where peers have two:"
    yield ""
    yield "| arm | peers | rate | seeds | first | second |"
    yield "|---|---|---|---|---|---|"
    for (arm, peers, rate), results in mixed.items():
        finals = [
            _interval([statistics.fmean(one["finals"][which :: ARMS[arm].models]) for one in results])
            for which in range(ARMS[arm].models)
        ]
        yield f"| {arm} | {peers} | {rate:g} | {len(results)} | {' | '.join(finals)} |"
    yield ""


def _soonest(runs: dict[Setting, list[Result]], arm: str, peers: int, target: float) -> float | None:
    settings = [results for setting, results in runs.items() if setting[:2] == (arm, peers)]
    most = max(map(len, settings))
    reached = (_crossed(results, target) for results in settings if len(results) == most)
    return min((at for at in reached if at is not None), default=None)


def _times(at: float | None, alone: float | None) -> str:
    if at is None:
        return "never"
    return f"{at:.1f} (x {alone / at:.1f})" if alone and at else f"{at:.1f}"


def _seconds(result: Result) -> float:
    return math.fsum(result["seconds"][what] for what in SECONDS)


def _in_time(result: Result, seconds: float) -> float:
    """Held-out accuracy at the last measured round that ends within so many seconds of a peer's work."""
    played = result["played"] * min(1.0, seconds / _seconds(result))
    return float(max((at, right) for at, right in result["curve"] if at <= played)[1])


def _reached(results: Sequence[Result], target: float) -> float | None:
    """The first measured round at which the mean curve is at the target, in rounds of a peer that samples all its
    groups itself."""
    return next((at for at, right in _mean_curve(results) if right >= target), None)


def _crossed(results: Sequence[Result], target: float) -> float | None:
    """The same between the measured rounds, as if the curve went straight from one to the next."""
    curve = _mean_curve(results)
    for (before, low), (at, high) in itertools.pairwise(curve):
        if high >= target:
            return before + (at - before) * max(0.0, target - low) / (high - low) if high > low else at
    return None


def _mean_curve(results: Sequence[Result]) -> list[tuple[float, float]]:
    arm = ARMS[results[0]["arm"]]
    curves = [dict(result["curve"]) for result in results]
    measured = sorted(set.intersection(*map(set, curves)))
    return [(at * arm.own, statistics.fmean(curve[at] for curve in curves)) for at in measured]


def _best(runs: dict[Setting, list[Result]], arm: str, peers: int) -> Setting | None:
    """The rate with the best held-out accuracy at the end."""
    settings = [setting for setting in runs if setting[:2] == (arm, peers)]
    return max(settings, key=lambda setting: _standing([_final(result) for result in runs[setting]]), default=None)


def _standing(finals: Sequence[float]) -> tuple[int, float]:
    """What rates are compared by: one that was chosen before, and has run on more seeds, stays."""
    return len(finals), statistics.fmean(finals)


def _final(result: Result) -> float:
    return float(result["final"])


def _cumulative(result: Result) -> float:
    """Sum over the rounds of the mean reward, a round being the completions that a peer alone samples in one."""
    return math.fsum(result["rewards"]) * ARMS[result["arm"]].own


def _mean(results: Sequence[Result], value: Callable[[Result], float]) -> float:
    return statistics.fmean(map(value, results))


def _interval(values: Sequence[float], sign: str = "") -> str:
    mean = f"{statistics.fmean(values):{sign}.2f}"
    if len(values) < 2:
        return mean
    t = T_95[len(values) - 2] if len(values) - 2 < len(T_95) else 1.96
    return f"{mean} ± {t * statistics.stdev(values) / math.sqrt(len(values)):.2f}"
