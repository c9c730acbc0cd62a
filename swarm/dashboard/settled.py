"""Settled points, from the statements of settlements that journals keep."""

import logging
from collections.abc import Sequence

from swarm.dashboard.history import History, JournalUnreadable
from swarm.judging.points import MILLIONTHS
from swarm.round.wire import RecordRefused
from swarm.settlement.documents import Statement, decode

logger = logging.getLogger(__name__)


class SettledPoints:
    """Cumulative points by peer, of the newest settlement whose statement is here. A statement is read once."""

    def __init__(self) -> None:
        self._read: tuple[str, dict[str, float]] = ("", {})

    def of(self, data_hashes: Sequence[str], histories: Sequence[History]) -> dict[str, float]:
        """`data_hashes` are those of the settlements on the chain, the newest first."""
        for data_hash in data_hashes:
            if data_hash == self._read[0]:
                break
            points = next((found for history in histories if (found := _points(history, data_hash)) is not None), None)
            if points is not None:
                self._read = (data_hash, points)
                break
        return self._read[1]


def _points(history: History, data_hash: str) -> dict[str, float] | None:
    try:
        with history.reading() as database:
            row = database.execute("SELECT body FROM papers WHERE sha256 = ?", (data_hash,)).fetchone()
            statement = decode(Statement, row[0]) if row else None
    except (JournalUnreadable, RecordRefused) as error:
        logger.warning("the statement %s was not read: %s", data_hash, error)
        return None
    return {peer: value / MILLIONTHS for peer, value in statement.points.items()} if statement else None
