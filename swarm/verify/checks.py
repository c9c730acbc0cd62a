"""What of an exported round holds: signatures, assignment, openings, rewards, and the replay where weights are here.

Nothing in the file is believed that can be recomputed. What cannot be told from the file alone is said to be unknown.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from swarm.judging.calibration import calibrate
from swarm.judging.points import MILLIONTHS, round_points
from swarm.network.announcements import Refused, decode_record
from swarm.network.blobs import BlobRef
from swarm.recipe.load import parse_recipe
from swarm.recipe.seals import is_audit
from swarm.round.assignment import Item, judges_of
from swarm.round.evidence import Book, Evidence, is_opening
from swarm.round.records import (
    AnyRecord,
    CritiqueRecord,
    OpeningRecord,
    StageNote,
    check_header,
    check_lengths,
    decode,
)
from swarm.round.wire import RecordRefused, read_note
from swarm.verify.document import ExportedRecord, RoundFile, from_base64

State = Literal["holds", "fails", "unknown"]
Replay = Callable[[AnyRecord, Evidence], "Iterator[Check]"]
"""Replays the groups of a record."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    state: State
    why: str


class Verification:
    """The checks of one file, in order."""

    def __init__(self, file: RoundFile) -> None:
        """Raises SwarmError where the file's recipe is none."""
        self.recipe = parse_recipe(file.recipe.encode())
        self.seed = bytes.fromhex(file.seed)
        self._file = file
        self._book = Book()
        self._roster: dict[str, int] = {}

    def run(self, replay: Replay | None = None) -> list[Check]:
        checks = [self._signed(record) for record in self._file.records]
        drawn = judges_of(self.recipe, self.seed, self._roster, self._file.owners, self._file.before)
        checks += [self._assigned(record, drawn) for record in self._book.critiques.values()]
        checks += [self._opened(record) for record in self._book.openings.values()]
        whole = Book(dict(self._book.answers), dict(self._book.critiques), dict(self._book.revisions))
        self._book.keep_assigned(drawn)
        curves = {judge: calibrate(audits) for judge, audits in self._file.audits.items()}
        evidence = Evidence(
            self.recipe, self.seed, self._book, lambda judge: curves.get(judge) or calibrate([]), self._file.spent
        )
        evidence.owners = self._file.owners
        checks.append(self._rewards(evidence))
        for record in whole.records():
            checks += list(replay(record, evidence)) if replay else []
        return checks

    def _signed(self, exported: ExportedRecord) -> Check:
        what = f"{exported.stage} of {exported.author}: signature, hash and form"
        file = self._file
        try:
            said = decode_record(file.swarm, exported.author, from_base64(exported.announcement))
            if said.slot != f"{file.round}/{exported.stage}":
                return Check(what, "fails", f"the announcement is for {said.slot}")
            note = read_note(StageNote, said.value)
            if exported.stage == "answer":
                self._roster[exported.author] = note.groups
                self._book.committed[exported.author] = said.expires
            if not exported.body:
                return Check(what, "unknown", "it was announced, and is not in the file")
            blob = from_base64(exported.body)
            if not BlobRef(note.sha256, note.size).matches(blob):
                return Check(what, "fails", "it is not the record that its author committed to")
            record = decode(exported.stage, blob)
            check_header(record, file.swarm, file.round, exported.author, note)
            check_lengths(record, self.recipe)
        except (Refused, RecordRefused) as error:
            return Check(what, "fails", str(error))
        self._book.add(record)
        return Check(what, "holds", "signed by its author, who committed to just this")

    def _assigned(self, record: CritiqueRecord, drawn: dict[Item, list[str]]) -> Check:
        what = f"critique of {record.peer_id}: assignment"
        uncalled = [
            group
            for group in record.groups
            if record.peer_id not in drawn.get(Item(group.author, group.task, group.sample), ())
        ]
        if uncalled:
            return Check(what, "fails", f"{len(uncalled)} of {len(record.groups)} items were not its to judge")
        return Check(what, "holds", f"the seed drew it for all {len(record.groups)} items")

    def _opened(self, record: OpeningRecord) -> Check:
        what = f"openings of {record.peer_id}"
        false = [opened for opened in record.groups if not is_opening(self.recipe, opened)]
        share = self.recipe.audits.share
        undrawn = [opened for opened in record.groups if not is_audit(opened.salt, self.seed, share)]
        if false:
            return Check(what, "fails", f"{len(false)} of {len(record.groups)} do not open a seal of the recipe")
        if undrawn:
            return Check(what, "fails", f"{len(undrawn)} of {len(record.groups)} are no audits of this round")
        return Check(what, "holds", f"all {len(record.groups)} open seals that salt and seed made audits")

    def _rewards(self, evidence: Evidence) -> Check:
        what, claim = "rewards and points", self._file.claim
        if claim is None:
            return Check(what, "unknown", "the file makes no claim")
        own = [record for record in self._book.records() if record.peer_id == claim.peer_id]
        points = round_points(evidence.earned(record) for record in own) / MILLIONTHS
        if abs(points - claim.points) > 1.5 / MILLIONTHS:
            return Check(
                what, "fails", f"{claim.peer_id} says {claim.points:.6f} points, its records give {points:.6f}"
            )
        return Check(what, "holds", f"the records of {claim.peer_id} give the {points:.6f} points that it says")
