"""One round in full, rebuilt from recipe, seed and records as any outsider can; the records behind a peer's page."""

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from swarm.dashboard.history import History, Round
from swarm.judging.calibration import WINDOW, Calibration, calibrate
from swarm.judging.jury import Vote, decide
from swarm.network.announcements import Announcement, Refused, decode_record
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task
from swarm.recipe.verifiers import has_truth, verify
from swarm.round.assignment import judges_of
from swarm.round.clock import lifetime_s
from swarm.round.evidence import Book, Evidence
from swarm.round.records import StageNote, decode
from swarm.round.wire import RecordRefused, read_note

logger = logging.getLogger(__name__)

Json = dict[str, Any]
Names = Mapping[str, str]

MAX_RECORDS = 50
MAX_LOOK_BACK = 2_000
"""Rounds in which a peer's newest records are looked for."""
MAX_BOOK_BYTES = 2 * 2**20
"""Of the blobs that one page of a round reads; what is left out is counted."""
EQUIVOCATION_ROUNDS = 100
MAX_FEED = 400


def records_of(history: History, peer_id: str) -> list[Json]:
    """A peer's newest records with its signatures, the newest first."""
    oldest = history.rounds[-MAX_LOOK_BACK:][0].number if history.rounds else 0
    swarm, recipe = history.swarm or "", history.recipe
    with history.reading() as database:
        rows = database.execute(
            "SELECT round, stage, sha256, announcement, length(body) > 0 FROM records "
            "WHERE peer_id = ? AND round >= ? ORDER BY round DESC, stage DESC LIMIT ?",
            (peer_id, oldest, MAX_RECORDS),
        ).fetchall()
    records = []
    for number, stage, sha256, raw, held in rows:
        said = _said(swarm, peer_id, raw)
        records.append(
            {
                "round": number,
                "stage": stage,
                "sha256": sha256,
                "signature": said.signature.hex() if said else None,
                "announced": said.expires - lifetime_s(recipe.timing) if said and recipe else None,
                "held": bool(held),
            }
        )
    return records


def equivocations(histories: Sequence[History]) -> list[Json]:
    """Peers that signed two records for one round and stage, as two journals of their newest rounds show it."""
    seen: dict[tuple[int, str, str], str] = {}
    found: dict[tuple[int, str, str], Json] = {}
    for history in histories if len(histories) > 1 else ():
        oldest = history.rounds[-EQUIVOCATION_ROUNDS:][0].number if history.rounds else 0
        try:
            with history.reading() as database:
                rows = database.execute(
                    "SELECT round, stage, peer_id, sha256 FROM records WHERE round >= ?", (oldest,)
                ).fetchall()
        except sqlite3.Error as error:
            logger.info("the records of %s were not compared: %s", history.home.name, error)
            continue
        for number, stage, peer_id, sha256 in rows:
            first = seen.setdefault((number, stage, peer_id), sha256)
            if first != sha256:
                found[number, stage, peer_id] = {
                    "round": number, "stage": stage, "peer_id": peer_id, "sha256": [first, sha256],
                }  # fmt: skip
    return list(found.values())[:MAX_RECORDS]


class RoundPage:
    """A round as one journal has it."""

    def __init__(self, history: History, found: Round, recipe: Recipe) -> None:
        """Raises sqlite3.Error where the journal cannot be read."""
        self._found = found
        self._recipe = recipe
        self._book = Book()
        self._announced: dict[tuple[str, str], tuple[Announcement, StageNote]] = {}
        self.left_out = 0
        """Records that are here and not shown, as the page would be too large."""
        with history.reading() as database:
            (self._seed,) = database.execute("SELECT seed FROM rounds WHERE number = ?", (found.number,)).fetchone()
            self._read_records(database, history.swarm or "")
            self._calibrations = {judge: self._calibrate(database, judge) for judge in self._book.critiques}
        self._book.keep_assigned(self._assigned())
        self._evidence = Evidence(recipe, self._seed, self._book, self._calibrations.__getitem__)

    def _read_records(self, database: sqlite3.Connection, swarm: str) -> None:
        left = MAX_BOOK_BYTES
        for stage, peer_id, raw, body in database.execute(
            "SELECT stage, peer_id, announcement, body FROM records WHERE round = ? ORDER BY stage, peer_id",
            (self._found.number,),
        ):
            said = _said(swarm, peer_id, raw)
            if said is not None:
                try:
                    self._announced[stage, peer_id] = (said, read_note(StageNote, said.value))
                except RecordRefused as error:
                    logger.info("an announcement of %s is none: %s", peer_id, error)
            left -= len(body)
            if not body:
                continue
            if left < 0:
                self.left_out += 1
                continue
            try:
                self._book.add(decode(stage, body))
            except RecordRefused as error:
                logger.info("a record of %s is none: %s", peer_id, error)

    def _calibrate(self, database: sqlite3.Connection, judge: str) -> Calibration:
        """What the audits said about a judge when the round was played."""
        rows = database.execute(
            "SELECT raw, truth FROM audits WHERE judge = ? AND round < ? "
            "ORDER BY round DESC, author, task, sample LIMIT ?",
            (judge, self._found.number, WINDOW),
        ).fetchall()
        return calibrate([(raw, bool(truth)) for raw, truth in reversed(rows)])

    def _assigned(self) -> dict[Any, list[str]]:
        roster = {peer_id: note.groups for (stage, peer_id), (_, note) in self._announced.items() if stage == "answer"}
        return judges_of(self._recipe, self._seed, roster)

    def authors(self) -> set[str]:
        """Everybody whom the page names."""
        return {peer_id for _, peer_id in self._announced} | {record.peer_id for record in self._book.records()}

    def page(self, names: Names) -> Json:
        found = self._found
        return {
            "number": found.number,
            "ordinal": found.ordinal,
            "seed": self._seed.hex(),
            "started": found.started,
            "finished": found.finished,
            "tasks": self._tasks(names),
            "left_out": self.left_out,
            "feed": self._feed(names),
        }

    def _tasks(self, names: Names) -> list[Json]:
        """Shared tasks with the answers of all, then each author's own."""
        shared = self._recipe.tasks.shared
        answered = {
            (None if group.task < shared else record.peer_id, group.task): None
            for record in self._book.answers.values()
            for group in record.groups
        }
        order = sorted(answered, key=lambda key: (key[0] is not None, names.get(key[0] or "", ""), key[1]))
        return [self._task(author, number, names) for author, number in order]

    def _task(self, author: str | None, number: int, names: Names) -> Json:
        authors = [author] if author else sorted(self._book.answers, key=lambda peer: names.get(peer, peer))
        task = self._evidence.task(authors[0], number)
        told = has_truth(self._recipe, task)
        return {
            "index": number,
            "shared": author is None,
            "author": author,
            "question": task.question,
            "truth": str(task.entry["answer"]) if told else None,
            "answers": [answer for peer in authors for answer in self._answers(peer, number, task, names)],
            "critiques": [critique for peer in authors for critique in self._critiques(peer, number, names)],
            "jury": [entry for peer in authors for entry in self._jury(peer, number)],
            "revisions": [revision for peer in authors for revision in self._revisions(peer, number, task, names)],
        }

    def _answers(self, author: str, number: int, task: Task, names: Names) -> list[Json]:
        record = self._book.answers.get(author)
        return [
            {
                "author": author,
                "name": names[author],
                "sample": sample,
                "text": rollout.text,
                "reward": self._reward(task, rollout.text),
                "finished": rollout.finished,
            }
            for group in (record.groups if record else ())
            if group.task == number
            for sample, rollout in enumerate(group.rollouts)
        ]

    def _critiques(self, author: str, number: int, names: Names) -> list[Json]:
        """The critique that the author read, of each judge, with the judge's verdicts on all answers of the group."""
        return [
            {
                "judge": judge,
                "name": names[judge],
                "author": author,
                "sample": group.sample,
                "text": group.rollouts[0].text,
                "verdicts": list(group.verdicts),
                "probabilities": [round(calibration.probability(raw), 4) for raw in group.verdicts]
                if calibration.audits
                else None,
            }
            for judge, record in self._book.critiques.items()
            for group in record.groups
            if (group.author, group.task) == (author, number)
            for calibration in (self._calibrations[judge],)
        ]

    def _jury(self, author: str, number: int) -> list[Json]:
        votes: dict[int, list[Vote]] = {}
        for judge, record in self._book.critiques.items():
            for group in record.groups:
                if (group.author, group.task) == (author, number):
                    calibration = self._calibrations[judge]
                    for sample, raw in enumerate(group.verdicts):
                        votes.setdefault(sample, []).append(Vote(calibration.probability(raw), calibration.weight))
        return [
            {"author": author, "sample": sample, "probability": probability and round(probability, 4)}
            for sample, given in sorted(votes.items())
            for probability in (decide(given).probability,)
        ]

    def _revisions(self, author: str, number: int, task: Task, names: Names) -> list[Json]:
        record = self._book.revisions.get(author)
        answers = self._evidence.answer_texts(author, number)
        return [
            {
                "author": author,
                "name": names[author],
                "sample": group.sample,
                "text": rollout.text,
                "reward": self._reward(task, rollout.text),
                "was": answers[group.sample] if group.sample < len(answers) else None,
            }
            for group in (record.groups if record else ())
            if group.task == number
            for rollout in group.rollouts
        ]

    def _reward(self, task: Task, text: str) -> float | None:
        return verify(self._recipe, task, text) if has_truth(self._recipe, task) else None

    def _feed(self, names: Names) -> list[Json]:
        """What was announced, in the order of time; the time is that of the author's own clock."""
        life_s = lifetime_s(self._recipe.timing)
        feed: list[Json] = [
            {
                "at": round(said.expires - life_s, 3),
                "peer_id": peer_id,
                "name": names[peer_id],
                "what": _what(stage, note),
            }
            for (stage, peer_id), (said, note) in self._announced.items()
        ]
        return sorted(feed, key=lambda entry: entry["at"])[:MAX_FEED]


def _what(stage: str, note: StageNote) -> str:
    what = {
        "answer": "answered {} task{s}",
        "critique": "criticised {} answer{s}",
        "revise": "revised {} answer{s}",
    }[stage]
    return what.format(note.groups, s="" if note.groups == 1 else "s")


def _said(swarm: str, peer_id: str, raw: bytes) -> Announcement | None:
    try:
        return decode_record(swarm, peer_id, raw)
    except Refused as error:
        logger.info("an announcement of %s is none: %s", peer_id, error)
        return None
