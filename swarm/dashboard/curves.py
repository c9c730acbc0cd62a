"""Series over rounds, of bounded length whatever the number of rounds."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeGuard

from swarm.dashboard.history import History

Json = dict[str, Any]

MAX_CURVE = 500
"""Points of a curve; more rounds than these are averaged in equal runs."""
STAGES = ("answer", "critique", "revise")
PLAIN = ("trained", "fetched", "merged", "staleness", "tokens_per_s", "drift", "memory", "joules")
"""Series with one value a round."""
TRAFFIC = ("bytes_in", "bytes_out", "dht_in", "dht_out")
"""Bytes of blobs and of the DHT, from others and to them."""


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return round(math.fsum(known) / len(known), 4) if known else None


def sum_known(values: Iterable[int | None]) -> int | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def thinned(curve: Sequence[Any], limit: int = MAX_CURVE) -> list[Any]:
    """At most `limit` entries of a curve, evenly spread, the first and the last among them."""
    if len(curve) <= limit:
        return list(curve)
    return [curve[round(place * (len(curve) - 1) / (limit - 1))] for place in range(limit)]


def curves_of(history: History) -> Json:
    """Every series of one home; rounds are averaged in equal runs where there are too many."""
    run = -(-len(history.rounds) // MAX_CURVE)
    runs = [history.rounds[start : start + run] for start in range(0, len(history.rounds), run)]

    def series(value: Callable[[Json], float | None]) -> list[float | None]:
        return [mean(value(found.report) for found in rounds) for rounds in runs]

    def each(part: str, names: Iterable[str], default: float | None = None) -> dict[str, list[float | None]]:
        return {name: series(partial(_part, part, name, default)) for name in names}

    def names(part: str) -> list[str]:
        return sorted({name for found in history.rounds for name in found.report.get(part, ())})

    return {
        "ordinals": [rounds[-1].ordinal for rounds in runs],
        "times": [rounds[-1].finished for rounds in runs],
        **each("rewards", STAGES),
        "heldout": thinned([[o, round(correct / count, 4)] for o, _, correct, count in history.heldout if count]),
        "trained": series(lambda report: report.get("groups_trained")),
        "fetched": series(lambda report: report.get("groups_fetched")),
        "dropped": each("dropped", names("dropped"), 0),
        "merged": series(lambda report: report.get("merged")),
        "staleness": series(lambda report: report.get("staleness_s")),
        "merge_refused": each("merge_refused", names("merge_refused"), 0),
        "seconds": each("seconds", names("seconds")),
        "tokens_per_s": series(tokens_per_s_of),
        "drift": series(lambda report: report.get("update", {}).get("mean_ratio_drift")),
        "memory": series(lambda report: report.get("peak_memory")),
        "joules": series(lambda report: report.get("joules")),
        "network": each("network", TRAFFIC),
        "help": _help(history),
        "twin": _twin(history),
        "memory_plan": _memory_plan(history),
    }


def _part(part: str, name: str, default: float | None, report: Json) -> float | None:
    return report.get(part, {}).get(name, default)


def _memory_plan(history: History) -> Json | None:
    """How its updates fit into memory, as the peer planned it before its first round."""
    try:
        plan = json.loads(history.meta.get("memory_plan", "null"))
    except ValueError:
        return None
    wanted = ("micro_batch", "checkpointing", "chunk_tokens", "why")
    return {key: plan.get(key) for key in wanted} if isinstance(plan, dict) else None


def _help(history: History) -> Json | None:
    """What taking others' material gained this peer, by the newest round that says so, and in which round."""
    for found in reversed(history.rounds):
        told = found.report.get("help")
        if _is_help(told):
            return {**_bounded(told), "ordinal": found.ordinal}
    return None


def _twin(history: History) -> Json | None:
    """What the swarm has brought this peer against its twin, which learns alone."""
    told = history.latest.get("twin", {}).get("help")
    return _bounded(told) if _is_help(told) else None


def _is_help(told: Any) -> TypeGuard[Json]:
    return isinstance(told, dict) and all(isinstance(told.get(key), int | float) for key in ("gain", "low", "high"))


def _bounded(told: Json) -> Json:
    return {key: told.get(key) for key in ("gain", "low", "high", "rounds", "method")}


def means_of(peers: Sequence[Json]) -> Json:
    """The mean of the peers' series at each ordinal that any of them has."""
    at: dict[str, dict[int, list[float]]] = {}
    for peer in peers:
        for name in (*STAGES, *PLAIN):
            for ordinal, value in zip(peer["ordinals"], peer[name], strict=True):
                at.setdefault(name, {}).setdefault(ordinal, []).extend([] if value is None else [value])
        for ordinal, share in peer["heldout"]:
            at.setdefault("heldout", {}).setdefault(ordinal, []).append(share)
    heldout = at.pop("heldout", {})
    ordinals = thinned(sorted({ordinal for values in at.values() for ordinal in values}))
    return {
        "ordinals": ordinals,
        **{name: [mean(values.get(ordinal, ())) for ordinal in ordinals] for name, values in at.items()},
        "heldout": thinned([[ordinal, mean(shares)] for ordinal, shares in sorted(heldout.items())]),
    }


def tokens_per_s_of(report: Json) -> float | None:
    """Generated tokens over the seconds of the three stages."""
    seconds = math.fsum(report.get("seconds", {}).get(stage, 0.0) for stage in STAGES)
    return round(report.get("generated_tokens", 0) / seconds, 1) if seconds > 0 else None
