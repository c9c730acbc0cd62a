"""What a simulation of judging is measured by, and the naive rules that it is compared with."""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

Answer = tuple[int, str, int, int]
"""Round, author, task and sample."""


@dataclass(frozen=True)
class Share:
    """Mean points per unit of work."""

    honest: float | None
    adversary: float | None


@dataclass(frozen=True)
class Measures:
    """How well a rule of judging did."""

    kendall: float | None
    """Rank correlation of points with true skill; None with fewer than two peers that differ."""
    jury_accuracy: float | None
    """Share of right labels among the answers that got one."""
    points_per_work: Share

    def as_json(self) -> dict[str, Any]:
        return {name: _rounded(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Judged:
    """One answer, the raw verdicts on it by judge, and the truth."""

    answer: Answer
    raw: Mapping[str, float]
    right: bool


@dataclass(frozen=True)
class Account:
    """What a scripted peer did over the whole simulation, under all its identities."""

    worth: float
    """True skill: what a unit of its work truly gives."""
    work: int
    """Groups of answers plus judged items, as it claims."""
    adversary: bool
    points: float


def measure(
    accounts: Sequence[Account], labels: Mapping[Answer, float | None], truths: Mapping[Answer, bool]
) -> Measures:
    """
    Args:
        labels: how right each answer is by the rule, in [0, 1]; None where the rule says nothing.
    """
    said = [(value > 0.5) == truths[answer] for answer, value in labels.items() if value is not None]
    return Measures(
        kendall(
            [account.points / account.work if account.work else 0.0 for account in accounts],
            [a.worth for a in accounts],
        ),
        sum(said) / len(said) if said else None,
        Share(
            _per_work([account for account in accounts if not account.adversary]),
            _per_work([account for account in accounts if account.adversary]),
        ),
    )


def kendall(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Rank correlation tau-b (Kendall 1945); None where all values of a side are equal."""
    concordance, untied_one, untied_other = 0, 0, 0
    for i in range(len(one)):
        for j in range(i):
            a, b = _sign(one[i] - one[j]), _sign(other[i] - other[j])
            concordance += a * b
            untied_one += a * a
            untied_other += b * b
    scale = math.sqrt(untied_one * untied_other)
    return concordance / scale if scale else None


def mean_rule(raw: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """An answer is as right as its judges say on average; a judge earns by being near that average."""
    said = {judge: 1 / (1 + math.exp(-value)) for judge, value in raw.items()}
    label = math.fsum(said.values()) / len(said)
    return label, {judge: 1 - abs(value - label) for judge, value in said.items()}


def majority_rule(raw: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """An answer is right if most judges say so; a judge earns by being among them."""
    yes = sum(value > 0 for value in raw.values())
    label = 0.5 if 2 * yes == len(raw) else float(2 * yes > len(raw))
    return label, {judge: 1 - abs((value > 0) - label) for judge, value in raw.items()}


Rule = Callable[[Mapping[str, float]], tuple[float, dict[str, float]]]
NAIVE: dict[str, Rule] = {"mean": mean_rule, "majority": majority_rule}


def ceiling(judged: Sequence[Judged], honest: Set[str]) -> float | None:
    """Accuracy of a rule that knows who is honest, and takes their scores for the log-odds that they are: what the
    verdicts on each answer allow, whoever weighs them."""
    if not judged:
        return None
    right = sum(one.right for one in judged)
    prior = math.log((right + 0.5) / (len(judged) - right + 0.5))
    said = [
        (prior + math.fsum(raw for judge, raw in one.raw.items() if judge in honest) > 0) == one.right
        for one in judged
        if honest & one.raw.keys()
    ]
    return sum(said) / len(said) if said else None


def naive_points(rule: Rule, judged: Sequence[Judged]) -> tuple[dict[Answer, float], dict[str, float]]:
    """Labels and points under a naive rule: an author earns the mean label of each of its groups, a judge the mean
    agreement on each item, so that an item is worth at most a point, as with the real rule. The order of what was
    judged does not matter, down to the last bit, so that ties stay ties."""
    labels: dict[Answer, float] = {}
    earned: dict[tuple[str, tuple[int, str, int]], list[float]] = {}
    for one in judged:
        number, author, task, _ = one.answer
        label, agreement = rule(one.raw)
        labels[one.answer] = label
        for peer, value in {**agreement, author: label}.items():
            earned.setdefault((peer, (number, author, task)), []).append(value)
    by_peer: dict[str, list[float]] = {}
    for (peer, _), values in earned.items():
        by_peer.setdefault(peer, []).append(math.fsum(values) / len(values))
    return labels, {peer: math.fsum(values) for peer, values in by_peer.items()}


def _per_work(accounts: Sequence[Account]) -> float | None:
    work = sum(account.work for account in accounts)
    return math.fsum(account.points for account in accounts) / work if work else None


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value
