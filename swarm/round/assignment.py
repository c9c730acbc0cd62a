"""Who does what in a round: a pure function of the round's seed and of who is there."""

import random
from collections.abc import Callable, Collection, Mapping
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


def judges_of(
    recipe: Recipe,
    seed: bytes,
    roster: Mapping[str, int],
    owners: Mapping[str, str] | None = None,
    before: Collection[str] = (),
) -> dict[Item, list[str]]:
    """The judges of every item: never its author or a peer of the same owner, evenly spread, at most `critique.items`
    per judge, and, where there are others, nobody who judged this author in the round before.

    Args:
        roster: how many tasks each peer has answered, as announced: what a peer has fetched differs from peer to peer.
        owners: who a peer belongs to; a peer without one is its own owner.
        before: the pairs of the round before, as `pairs_of` gives them.
    """
    ring = sorted(roster, key=lambda peer: draw(seed, "ring", peer))
    wanted = min(recipe.sharing.judges, len(ring) - 1)
    owner = {peer: (owners or {}).get(peer, peer) for peer in ring}
    load: dict[str, int] = dict.fromkeys(ring, 0)
    assigned: dict[Item, list[str]] = {}
    for place, author in enumerate(ring):
        around = [ring[(place + 1 + step) % len(ring)] for step in range(len(ring) - 1)]
        others = [peer for peer in around if owner[peer] != owner[author]]
        fresh = [peer for peer in others if pair(peer, author) not in before]
        for index, item in enumerate(items_of(recipe, seed, author, roster[author])):
            drawn: list[str] = []
            for choice in (fresh, others):
                for step in range(len(choice)):
                    if len(drawn) == wanted:
                        break
                    judge = choice[(index * wanted + step) % len(choice)]
                    if judge not in drawn and load[judge] < recipe.stages.critique.items:
                        drawn.append(judge)
            assigned[item] = drawn
            for judge in drawn:
                load[judge] += 1
    return assigned


def pair(judge: str, author: str) -> str:
    """A judge and an author in 16 hexadecimal digits."""
    return f"{draw(b'pair', judge, author):016x}"


def pairs_of(assigned: Mapping[Item, Collection[str]]) -> frozenset[str]:
    """Who judges whom in a round, for the next round's `before`."""
    return frozenset(pair(judge, item.author) for item, judges in assigned.items() for judge in judges)


Owners = Callable[[int, Collection[str]], Mapping[str, str]]


@dataclass(frozen=True)
class Drawn:
    """The judges of a round, with all that decided it beside recipe, seed and roster."""

    number: int
    judges: dict[Item, list[str]]
    owners: Mapping[str, str]
    before: frozenset[str]

    @property
    def pairs(self) -> frozenset[str]:
        return pairs_of(self.judges)


class Assigner:
    """Draws judges round after round: keeps the pairs of the round before, and forgets them when an epoch begins, so
    that whoever missed a round soon draws the same again."""

    def __init__(
        self,
        recipe: Recipe,
        owners: Owners = lambda number, peers: {},
        epoch_of: Callable[[int], int] = lambda number: 0,
    ) -> None:
        """`owners` gives, for a round and some peers, who each linked one belonged to at the start of the round."""
        self._recipe = recipe
        self._owners = owners
        self._epoch_of = epoch_of
        self._number = -1
        self._pairs: frozenset[str] = frozenset()
        self._before: frozenset[str] = frozenset()

    def resume(self, number: int, pairs: Collection[str]) -> None:
        """Continue after a round whose pairs are known."""
        self._number, self._pairs = number, frozenset(pairs)

    def draw(self, number: int, seed: bytes, roster: Mapping[str, int]) -> Drawn:
        """The judges of a round; the last one may be drawn again."""
        if number != self._number:
            same_epoch = self._number >= 0 and self._epoch_of(self._number) == self._epoch_of(number)
            self._before = self._pairs if same_epoch else frozenset()
        owners = self._owners(number, roster)
        judges = judges_of(self._recipe, seed, roster, owners, self._before)
        self._number, self._pairs = number, pairs_of(judges)
        return Drawn(number, judges, owners, self._before)


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
