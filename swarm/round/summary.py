"""What came of a peer's rounds, in the form that `--summary` writes."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from swarm.chain.client import ChainUnavailable
from swarm.chain.registry import Registry
from swarm.journal.journal import Journal
from swarm.round.benefit import against_twin

if TYPE_CHECKING:  # the parent of a local swarm needs no torch
    from swarm.training.learner import Learner

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_SUMS = ("rollouts_published", "rollouts_fetched", "critiques", "revisions", "verdicts")


def summarise_peer(
    journal: Journal, registry: Registry, learner: "Learner", *, peer_id: str, name: str, address: str, finished: bool
) -> dict[str, Any]:
    """One peer, over all rounds of its home."""
    reports = journal.reports()
    return {
        "peer_id": peer_id,
        "name": name,
        "address": address,
        "registered": _or_none(lambda: registry.is_registered(peer_id)),
        "model": learner.name,
        "device": learner.device_name,
        "rounds": len(reports),
        "reward": [report["reward"] for report in reports],
        "heldout": _heldout(journal.heldout()),
        **{key: sum(report[key] for report in reports) for key in _SUMS},
        "merged": sum(report.get("merged", 0) for report in reports),
        "help": next((report["help"] for report in reversed(reports) if report.get("help")), None),
        "twin": against_twin(journal.heldout_answers("peer"), journal.heldout_answers("twin")),
        "updates": sum(bool(report["updated"]) for report in reports),
        "generated_tokens": sum(report["generated_tokens"] for report in reports),
        "memory_plan": json.loads(journal.get("memory_plan") or "null"),
        "peak_memory": max((report.get("peak_memory") or 0 for report in reports), default=0) or None,
        "joules": sum(report.get("joules") or 0.0 for report in reports) or None,
        "tokens_per_s": round(learner.counters.generated_tokens_per_second, 1),
        "finished": finished,
        "points": round(sum(report["points"] for report in reports), 6),
    }


def summarise_chain(registry: Registry) -> dict[str, Any]:
    return {
        "rpc": registry.chain.url,
        "contract": registry.address,
        "registered_peers": _or_none(registry.peer_count),
    }


def summarise_swarm(
    swarm: str, chain: dict[str, Any], peers: Sequence[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """The whole file."""
    return {
        "swarm": swarm,
        "rounds": max((peer["rounds"] for peer in peers), default=0),
        "seconds": round(seconds, 1),
        "chain": chain,
        "peers": list(peers),
    }


def _heldout(measured: Sequence[tuple[int, int, int]]) -> dict[str, Any] | None:
    if not measured:
        return None
    shares = [[ordinal, round(correct / count, 4)] for ordinal, correct, count in measured]
    return {"before": shares[0][1], "after": shares[-1][1], "n": measured[-1][2], "curve": shares}


def _or_none(ask: Callable[[], _T]) -> _T | None:
    """What the chain says, or None while it is away."""
    try:
        return ask()
    except ChainUnavailable as error:
        logger.warning("the chain is away: %s", error)
        return None
