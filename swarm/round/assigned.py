"""How judges were drawn in the rounds of a journal: what decided it beside recipe, seed and announcements."""

import json
from dataclasses import dataclass

from swarm.journal.journal import Journal
from swarm.round.assignment import Drawn

PREFIX = "assigned/"
_LAST = "pairs"


@dataclass(frozen=True)
class Basis:
    """`owners` and `before` as `judges_of` takes them."""

    owners: dict[str, str]
    before: frozenset[str]


def keep(journal: Journal, drawn: Drawn) -> None:
    """Write down how the judges of a round were drawn."""
    journal.put(f"{PREFIX}{drawn.number}", json.dumps({"owners": dict(drawn.owners), "before": sorted(drawn.before)}))
    journal.put(_LAST, json.dumps([drawn.number, sorted(drawn.pairs)]))


def last_pairs(journal: Journal) -> tuple[int, frozenset[str]] | None:
    """The last round that was written down, and who judged whom in it."""
    found = journal.get(_LAST)
    if found is None:
        return None
    number, pairs = json.loads(found)
    return number, frozenset(pairs)


def read(text: str | None) -> Basis:
    """What a journal's entry `PREFIX` + number says; of an earlier version's round, nothing."""
    found = json.loads(text) if text else {"owners": {}, "before": []}
    return Basis(found["owners"], frozenset(found["before"]))
