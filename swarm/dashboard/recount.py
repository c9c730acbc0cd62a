"""What peers without a journal here earned, recomputed from the records of one that is: as everybody can.

Rounds are counted once, the newest first, a little at a time.
"""

import logging
import time
from dataclasses import dataclass

from swarm.dashboard.details import RoundBook
from swarm.dashboard.history import History, JournalUnreadable
from swarm.judging.points import MILLIONTHS, round_points

logger = logging.getLogger(__name__)

ROUNDS = 200
"""The newest ones are counted."""
BUDGET_S = 0.25
"""Of each second's look at the journals."""


@dataclass(frozen=True, slots=True)
class Earned:
    """One peer's points in a round, and the mean reward of its answers; None where nobody can tell."""

    points: float
    reward: float | None
    model: str


class Recount:
    """The newest rounds of one journal, by number and peer."""

    def __init__(self) -> None:
        self._rounds: dict[int, dict[str, Earned]] = {}
        self._stamp: tuple[str, int] | None = None

    def step(self, history: History | None) -> bool:
        """Count for a while what is not yet counted. Whether anything was."""
        if history is None or history.recipe is None:
            return False
        stamp = (str(history.home), len(history.rounds))
        if stamp == self._stamp:
            return False
        newest = history.rounds[-ROUNDS:]
        kept = {found.number for found in newest}
        counted = {number: earned for number, earned in self._rounds.items() if number in kept}
        until = time.monotonic() + BUDGET_S
        for found in reversed(newest):
            if found.number in counted:
                continue
            if time.monotonic() > until:
                break
            try:
                counted[found.number] = _earned(RoundBook(history, found, history.recipe))
            except JournalUnreadable as error:
                logger.info("round %d is not counted yet: %s", found.number, error)
                break
        else:
            self._stamp = stamp
        self._rounds = counted
        return True

    def of(self, peer_id: str, numbers: list[int]) -> list[Earned | None]:
        """What a peer earned in some rounds, in their order; None where it was not there, or is not counted."""
        return [self._rounds.get(number, {}).get(peer_id) for number in numbers]

    def counted(self, numbers: list[int]) -> bool:
        """Whether all of some rounds are counted."""
        return all(number in self._rounds for number in numbers)


def _earned(book: RoundBook) -> dict[str, Earned]:
    found: dict[str, Earned] = {}
    for peer_id, records in book.by_author().items():
        points = round_points(book.evidence.earned(record) for record in records) / MILLIONTHS
        found[peer_id] = Earned(points, book.answer_reward(peer_id), records[0].model)
    return found
