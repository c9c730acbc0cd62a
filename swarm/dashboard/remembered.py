"""What the journals say of the chain while it does not answer: a swarm that has ended often takes its chain with it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from swarm.chain.settlements import Settlement
from swarm.dashboard.history import History, JournalUnreadable
from swarm.dashboard.onchain import Posted, Standing
from swarm.round.wire import RecordRefused
from swarm.settlement.documents import Statement, decode
from swarm.settlement.result import Result

logger = logging.getLogger(__name__)

NEWEST = 10
"""Settlements that are shown: each takes reading a statement."""


def remembered(histories: Sequence[History]) -> Standing:
    """The settlements that a peer saw on the chain and checked, the newest first; who registered is not known."""
    for history in sorted(histories, key=lambda it: len(it.rounds), reverse=True):
        noted, begun, recipe = history.latest.get("settlements", {}), history.latest.get("round"), history.recipe
        if not noted or begun is None or recipe is None:
            continue
        try:
            settlements = _settlements(history, noted)
        except (JournalUnreadable, RecordRefused) as error:
            logger.info("the settlements in %s were not read: %s", history.home.name, error)
            continue
        return Standing(
            genesis=round(begun["ends"] - recipe.timing.round_s - begun["round"] * recipe.timing.tick_s),
            epoch_s=recipe.settlement.epoch_rounds * recipe.timing.round_s,
            settlements=settlements,
        )
    return Standing()


def _settlements(history: History, noted: Mapping[str, Any]) -> tuple[Posted, ...]:
    found = []
    with history.reading() as database:
        for epoch in sorted(map(int, noted), reverse=True)[:NEWEST]:
            known = noted[str(epoch)]
            row = database.execute("SELECT body FROM papers WHERE sha256 = ?", (known["data_hash"],)).fetchone()
            if row is None:
                continue
            statement = decode(Statement, row[0])
            before = statement.previous.epoch if statement.previous else None
            outcome, frozen = Result.of(statement, row[0]).outcome, known["state"] == "frozen"
            found.append(
                Posted(Settlement(epoch, outcome, int(known["at"]), frozen, before), known["state"], None, None)
            )
    return tuple(found)
