"""Who does what in a round: a pure function of the round's seed and of who is there."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from swarm.recipe.schema import Recipe


@dataclass(frozen=True)
class Item:
    """One answer that is put up for critique: a sample of an author's answers to a task."""

    author: str
    task: int
    sample: int


def draw(seed: bytes, *parts: object) -> int:
    """A number below 2**64 that the seed and the parts decide."""
    text = "\x00".join(str(part) for part in parts).encode()
    return int.from_bytes(sha256(seed + text).digest()[:8], "big")


def items_of(recipe: Recipe, seed: bytes, author: str, tasks: int) -> list[Item]:
    """The answers of an author that are put up for critique; it has answered its first `tasks` tasks."""
    judges = recipe.sharing.judges
    count = -(-recipe.stages.critique.items // judges) if judges else 0
    samples = recipe.stages.answer.samples
    drawn = sorted(range(tasks), key=lambda task: draw(seed, "item", author, task))[:count]
    return [Item(author, task, draw(seed, "sample", author, task) % samples) for task in drawn]


def judges_of(recipe: Recipe, seed: bytes, roster: Mapping[str, int]) -> dict[Item, list[str]]:
    """The judges of every item: never its author, evenly spread, at most `critique.items` per judge.

    Args:
        roster: how many tasks each peer has answered, as announced: what a peer has fetched differs from peer to peer.
    """
    ring = sorted(roster, key=lambda peer: draw(seed, "ring", peer))
    others = len(ring) - 1
    judges = min(recipe.sharing.judges, others)
    load: dict[str, int] = dict.fromkeys(ring, 0)
    assigned: dict[Item, list[str]] = {}
    for place, author in enumerate(ring):
        for index, item in enumerate(items_of(recipe, seed, author, roster[author])):
            drawn = [ring[(place + 1 + (index * judges + k) % others) % len(ring)] for k in range(judges)]
            assigned[item] = [judge for judge in drawn if load[judge] < recipe.stages.critique.items]
            for judge in assigned[item]:
                load[judge] += 1
    return assigned


def sources_of(recipe: Recipe, seed: bytes, peer_id: str, authors: Collection[str]) -> list[str]:
    """The peers whose rollouts this peer fetches: K of them by the round's seed, so traffic does not grow with N."""
    others = sorted(author for author in authors if author != peer_id)
    return random.Random(sha256(seed + b"sources" + peer_id.encode()).digest()).sample(
        others, min(recipe.sharing.fetch_peers, len(others))
    )


def affordable(full: int, seconds_per_group: float | None, window_s: float) -> int:
    """How many of `full` groups a peer of this speed can finish within 80% of a window; at least one."""
    if not seconds_per_group or seconds_per_group <= 0:
        return full
    return max(1, min(full, int(0.8 * window_s / seconds_per_group)))
