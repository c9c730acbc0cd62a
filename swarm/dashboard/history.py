"""One peer's journal as a watcher sees it: opened read-only, read once, then followed row by row.

A journal that is damaged, gone or of a later version is told in one sentence; what was read before stays.
"""

import json
import sqlite3
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from swarm.errors import SwarmError
from swarm.journal.journal import SCHEMA_VERSION
from swarm.journal.latest import PREFIX
from swarm.judging.calibration import WINDOW
from swarm.recipe.load import parse_recipe
from swarm.recipe.schema import Recipe
from swarm.round.home import JOURNAL_NAME
from swarm.round.openings import spent_by
from swarm.round.records import decode_openings
from swarm.round.wire import NOT_DELIVERED, RecordRefused

BUSY_S = 2.0
"""How long a read waits for a writer."""
AT_ONCE = 100
"""Rounds that are read at a time."""
JOULES_PER_KWH = 3.6e6
RETRY_S = 5.0
"""Between two attempts to read a journal that cannot be read."""


@dataclass(slots=True)
class Round:
    """A complete round of one peer; `report` is a `RoundReport` as JSON."""

    number: int
    ordinal: int
    started: float
    finished: float
    report: dict[str, Any]


@dataclass(slots=True)
class Seen:
    """What one peer announced, as a journal has it."""

    announced: int = 0
    held: int = 0
    """Records that are here, fetched and checked."""
    streak: int = 0
    """Rounds in a row with answers, up to the round `last`."""
    last: int = -1
    judged: int = -1
    """The newest round with critiques; `last` is the newest with answers."""


@dataclass(slots=True)
class Audits:
    """A judge's newest audits as (raw score, truth), and how many there were in all."""

    newest: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    count: int = 0
    items: int = 0
    """Answers put up for critique that it judged."""


class History:
    """The journal of one home. `refresh` is called by one thread; what it fills is only read by others."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / JOURNAL_NAME
        self.error: str | None = None
        self.error_since: float | None = None
        self.changed_at = 0.0
        self._database: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._data_version: int | None = None
        self._retry_at = 0.0
        self._clear()

    def _clear(self) -> None:
        self.meta: dict[str, str] = {}
        self.latest: dict[str, dict[str, Any]] = {}
        """The latest event of each kind."""
        self.rounds: list[Round] = []
        self.position: dict[int, int] = {}
        """Of each round's number in `rounds`."""
        self.heldout: list[tuple[int, float, int, int]] = []
        """Measurements as (rounds done, unix seconds, correct, questions)."""
        self.audits: dict[str, Audits] = {}
        self.seen: dict[str, Seen] = {}
        self.refused: Counter[str] = Counter()
        self.not_revealed = 0
        """Records that others committed to, and that never came when this peer asked for them."""
        self.opened: set[str] = set()
        """Seals of the recipe whose answers were shown."""
        self.joules = 0.0
        """Of the rounds whose energy was metered, and in `metered_tokens` what they generated."""
        self.metered_tokens = 0
        self._critiques = 0
        self._last_audit = self._last_record = -1
        self.recipe: Recipe | None = None
        """The swarm's, once the peer has it."""
        self.behind = True
        """Whether the journal has, or may have, more than was read so far."""

    @property
    def peer_id(self) -> str | None:
        return self.latest.get("identity", {}).get("peer_id")

    @property
    def onlooker(self) -> bool:
        """Whether it belongs to somebody who only looks on: it holds what can be known from outside."""
        return self.meta.get("role") == "onlooker"

    @property
    def tokens_per_kwh(self) -> float | None:
        """Generated tokens per kilowatt-hour, over the rounds whose energy was metered."""
        return round(self.metered_tokens / (self.joules / JOULES_PER_KWH), 1) if self.joules else None

    @property
    def criticised(self) -> int:
        """Answers of others that this peer criticised."""
        return self._critiques // self.recipe.stages.critique.samples if self.recipe else 0

    @property
    def swarm(self) -> str | None:
        chain_id, contract = self.meta.get("chain_id"), self.meta.get("contract")
        return f"{chain_id}:{contract}" if chain_id and contract else None

    @property
    def extent(self) -> tuple[int, int, str | None]:
        """Changes with every round and measurement, and with what cannot be read."""
        return len(self.rounds), len(self.heldout), self.error

    def is_live(self, now: float) -> bool:
        """Whether its peer seems to run: the journal changed within the last two rounds, and no end was noted since."""
        ended = max((self.latest[kind]["at"] for kind in ("finished", "stopped") if kind in self.latest), default=0.0)
        begun = self.latest.get("identity", {}).get("at", 0.0)
        round_s = self.recipe.timing.round_s if self.recipe else 60
        return now - self.changed_at < 2 * round_s and ended <= begun

    def refresh(self) -> bool:
        """Read what is new; after an error, not before a while. Whether anything changed, an error included."""
        if self.error is not None and time.monotonic() < self._retry_at:
            return False
        before = self.error
        try:
            changed = self._follow()
            self.error = self.error_since = None
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError, SwarmError) as error:
            self.close()
            changed = self.behind = False
            self.error = _sentence(self.file, error)
            self.error_since = self.error_since or time.time()
            self._retry_at = time.monotonic() + RETRY_S
        return changed or self.error != before

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own, for a single question.

        Raises:
            JournalUnreadable: the journal cannot be read, now or in the block.
        """
        try:
            with closing(_connect(self.file)) as database:
                yield database
        except (sqlite3.Error, OSError, JournalTooNew) as error:
            raise JournalUnreadable(_sentence(self.file, error)) from error

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None

    def _follow(self) -> bool:
        inode = self.file.stat().st_ino
        if inode != self._inode:
            self.close()
        if self._database is None:
            self._database = _connect(self.file)
            self._data_version = None
            if inode != self._inode:
                self._inode = inode
                self._clear()
        version = self._database.execute("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            return False
        first = self._data_version is None
        self._read(self._database)
        if not self.behind:
            self.changed_at = _changed_at(self.file) if first else time.time()
            self._data_version = version
        return True

    def _read(self, database: sqlite3.Connection) -> None:
        """Read what is new, of at most so many rounds that nobody waits long for it."""
        before = self.meta.get("recipe")
        self.meta = dict(database.execute("SELECT key, value FROM meta"))
        text = self.meta.get("recipe")
        if text and text != before:
            self.recipe = parse_recipe(text.encode())
        self.latest = {
            key.removeprefix(PREFIX): json.loads(value) for key, value in self.meta.items() if key.startswith(PREFIX)
        }
        self.heldout = database.execute("SELECT ordinal, at, correct, count FROM heldout ORDER BY ordinal").fetchall()
        rows = database.execute(
            "SELECT number, ordinal, started, finished, report FROM rounds WHERE ordinal > ? ORDER BY ordinal LIMIT ?",
            (self.rounds[-1].ordinal if self.rounds else 0, AT_ONCE + 1),
        ).fetchall()
        for number, ordinal, started, finished, report in rows[:AT_ONCE]:
            self._add(Round(number, ordinal, started, finished, json.loads(report)))
        self.behind = len(rows) > AT_ONCE
        until = self.rounds[-1].number if self.behind else sys.maxsize
        self._read_records(database, until)
        self._read_audits(database, until)

    def _add(self, found: Round) -> None:
        self.position[found.number] = len(self.rounds)
        self.rounds.append(found)
        self.refused.update(broken_rules(found.report))
        self.not_revealed += found.report.get("refused", {}).get(NOT_DELIVERED, 0)
        self._critiques += found.report.get("critiques", 0)
        joules = found.report.get("joules")
        if joules:
            self.metered_tokens += found.report.get("generated_tokens", 0)
            self.joules += joules

    def _read_records(self, database: sqlite3.Connection, until: int) -> None:
        for number, stage, peer, held, opening in database.execute(
            "SELECT round, stage, peer_id, length(body) > 0, CASE stage WHEN 'open' THEN body END FROM records "
            "WHERE round > ? AND round <= ? ORDER BY round",
            (self._last_record, until),
        ):
            if opening:
                self.opened |= _seals_in(self.recipe, opening)
            seen = self.seen.setdefault(peer, Seen())
            seen.announced += 1
            seen.held += held
            if stage == "critique":
                seen.judged = number
            if stage == "answer":
                here, before = self.position.get(number), self.position.get(seen.last)
                follows = here is not None and before == here - 1 and seen.streak > 0
                seen.streak = seen.streak + 1 if follows else 1
                seen.last = number
            self._last_record = number

    def _read_audits(self, database: sqlite3.Connection, until: int) -> None:
        item = None
        for number, judge, author, task, raw, truth in database.execute(
            "SELECT round, judge, author, task, raw, truth FROM audits WHERE round > ? AND round <= ? "
            "ORDER BY round, judge, author, task, sample",
            (self._last_audit, until),
        ):
            audits = self.audits.setdefault(judge, Audits())
            audits.newest.append((raw, bool(truth)))
            audits.count += 1
            if (number, judge, author, task) != item:
                item = (number, judge, author, task)
                audits.items += 1
            self._last_audit = number


def _seals_in(recipe: Recipe | None, opening: bytes) -> set[str]:
    try:
        return spent_by(recipe, [decode_openings(opening)]) if recipe else set()
    except RecordRefused:
        return set()


def find_homes(folder: Path) -> list[Path]:
    """The homes in a folder: itself, or those right below it, as a local swarm has them."""
    if (folder / JOURNAL_NAME).is_file():
        return [folder]
    found = [entry for entry in folder.iterdir() if (entry / JOURNAL_NAME).is_file()] if folder.is_dir() else []
    return sorted(found, key=lambda path: (len(path.name), path.name))


class JournalUnreadable(SwarmError):
    """Not now; what was read before stays."""


def broken_rules(report: dict[str, Any]) -> Counter[str]:
    """Records of others that came in a round and were refused, by reason."""
    return Counter({reason: count for reason, count in report.get("refused", {}).items() if reason != NOT_DELIVERED})


class JournalTooNew(ValueError):
    """Written by a later version of this program."""


def _connect(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(
        f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, timeout=BUSY_S, check_same_thread=False
    )
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise JournalTooNew(f"it is of version {version}, this program knows {SCHEMA_VERSION}: update it")
    except BaseException:
        database.close()
        raise
    return database


def _changed_at(file: Path) -> float:
    """When the journal was last written, by the files' own times.

    A write-ahead log without content is made by whoever opens the journal to read it, and says nothing.
    """
    wal = file.with_name(file.name + "-wal")
    files = [file.stat(), *([wal.stat()] if wal.exists() else [])]
    return max((found.st_mtime for found in files if found.st_size), default=0.0)


def _sentence(file: Path, error: Exception) -> str:
    match error:
        case JournalTooNew():
            why = str(error)
        case FileNotFoundError():
            why = "it is gone"
        case sqlite3.Error() | OSError() | SwarmError():
            why = str(error)
        case _:
            why = f"it holds what no journal holds ({type(error).__name__})"
    return f"the journal {file.parent.name}/{file.name} cannot be read: {why}"
