"""The records of one round as a journal has them, with what is needed to read them; needs no model."""

import logging
import sqlite3
from typing import Any

from swarm.dashboard.history import History, Round
from swarm.judging.calibration import UNPROVEN, WINDOW, Calibration, calibrate
from swarm.network.announcements import Announcement, Refused, decode_record
from swarm.recipe.schema import Recipe
from swarm.round.assigned import PREFIX, Basis, read
from swarm.round.assignment import judges_of
from swarm.round.evidence import Book, Evidence
from swarm.round.openings import spent_by
from swarm.round.records import RECORD_OF, StageNote, StageRecord, check_lengths, decode, decode_openings
from swarm.round.wire import RecordRefused, read_note

logger = logging.getLogger(__name__)

MAX_BYTES = 2 * 2**20
"""Of the blobs of one round that are read; what is left out is counted."""


class RoundBook:
    """A round as one journal has it."""

    def __init__(self, history: History, found: Round, recipe: Recipe) -> None:
        """Raises JournalUnreadable."""
        self.found = found
        self.recipe = recipe
        self.book = Book()
        self.announced: dict[tuple[str, str], tuple[Announcement, StageNote]] = {}
        """By stage and author."""
        self.left_out = 0
        """Records that are here and not read, as they would be too much."""
        with history.reading() as database:
            (self.seed,) = database.execute("SELECT seed FROM rounds WHERE number = ?", (found.number,)).fetchone()
            self._read_records(database, history.swarm or "")
            self.calibrations = {judge: self._calibrate(database, judge) for judge in self.book.critiques}
            basis = self._basis(database)
            spent = self._spent(database)
        self.book.keep_assigned(self._assigned(basis))
        self.book.committed = {
            peer: said.expires for (stage, peer), (said, _) in self.announced.items() if stage == "answer"
        }
        self.evidence = Evidence(
            recipe, self.seed, self.book, lambda judge: self.calibrations.get(judge, UNPROVEN), spent
        )
        self.evidence.owners = basis.owners

    def names(self) -> set[str]:
        """The ids of all who announced something, or whose record is here."""
        return {peer_id for _, peer_id in self.announced} | set(self.by_author())

    def by_author(self) -> dict[str, list[StageRecord]]:
        """The records that are here."""
        found: dict[str, list[StageRecord]] = {}
        for record in self.book.records():
            found.setdefault(record.peer_id, []).append(record)
        return found

    def answer_reward(self, author: str) -> float | None:
        """The mean reward of an author's answers."""
        record = self.book.answers.get(author)
        groups = [self.evidence.answer_rewards(record, group) for group in record.groups] if record else []
        known = [reward for group in groups for reward in group if reward is not None]
        return sum(known) / len(known) if known else None

    def _read_records(self, database: sqlite3.Connection, swarm: str) -> None:
        left = MAX_BYTES
        for stage, peer_id, raw, body in database.execute(
            "SELECT stage, peer_id, announcement, body FROM records WHERE round = ? ORDER BY stage, peer_id",
            (self.found.number,),
        ):
            said = announcement_of(swarm, peer_id, raw)
            if said is not None:
                try:
                    self.announced[stage, peer_id] = (said, read_note(StageNote, said.value))
                except RecordRefused as error:
                    logger.info("an announcement of %s is none: %s", peer_id, error)
            left -= len(body)
            if not body or stage not in RECORD_OF:
                continue
            if left < 0:
                self.left_out += 1
                continue
            try:
                record = decode(stage, body)
                check_lengths(record, self.recipe)
                self.book.add(record)
            except RecordRefused as error:
                logger.info("a record of %s is none: %s", peer_id, error)

    def _calibrate(self, database: sqlite3.Connection, judge: str) -> Calibration:
        """What the audits said about a judge when the round was played."""
        rows = database.execute(
            "SELECT raw, truth FROM audits WHERE judge = ? AND round < ? "
            "ORDER BY round DESC, author DESC, task DESC, sample DESC LIMIT ?",
            (judge, self.found.number, WINDOW),
        ).fetchall()
        return calibrate([(raw, bool(truth)) for raw, truth in reversed(rows)])

    def _assigned(self, basis: Basis) -> dict[Any, list[str]]:
        roster = {peer_id: note.groups for (stage, peer_id), (_, note) in self.announced.items() if stage == "answer"}
        return judges_of(self.recipe, self.seed, roster, basis.owners, basis.before)

    def _basis(self, database: sqlite3.Connection) -> Basis:
        row = database.execute("SELECT value FROM meta WHERE key = ?", (f"{PREFIX}{self.found.number}",)).fetchone()
        return read(row[0] if row else None)

    def _spent(self, database: sqlite3.Connection) -> set[str]:
        """The seals that were opened before this round."""
        rows = database.execute(
            "SELECT body FROM records WHERE stage = 'open' AND round < ? AND length(body) > 0", (self.found.number,)
        )
        return spent_by(self.recipe, (decode_openings(body) for (body,) in rows))


def announcement_of(swarm: str, peer_id: str, raw: bytes) -> Announcement | None:
    """The announcement in a journal's row, its signature checked; None where it is none."""
    try:
        return decode_record(swarm, peer_id, raw)
    except Refused as error:
        logger.info("an announcement of %s is none: %s", peer_id, error)
        return None
