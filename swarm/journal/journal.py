"""One SQLite file per peer: what it did, what it saw, and where to resume.

A round is written in one transaction at its end, together with the name of the checkpoint that belongs to it. A peer
killed at any moment finds the last complete round here and goes on with the one after it.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from swarm.errors import SwarmError

_STEPS = (  # each brings a journal from one version of the schema to the next
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE rounds (
    number INTEGER PRIMARY KEY,      -- the tick at which it started
    ordinal INTEGER NOT NULL UNIQUE, -- counts the rounds of this peer from 1
    started REAL NOT NULL,           -- unix seconds
    finished REAL NOT NULL,
    seed BLOB NOT NULL,
    checkpoint TEXT NOT NULL,        -- folder under checkpoints/ that holds the state after this round
    report TEXT NOT NULL             -- JSON: rewards per stage, counts, update, points
);
CREATE TABLE records (
    round INTEGER NOT NULL,
    stage TEXT NOT NULL,
    peer_id TEXT NOT NULL,
    sha256 TEXT NOT NULL,            -- of the record's blob
    announcement BLOB NOT NULL,      -- as signed by its author
    body BLOB NOT NULL,              -- the blob; empty where it was announced, and not fetched or not accepted
    PRIMARY KEY (round, stage, peer_id)
);
CREATE TABLE audits (
    round INTEGER NOT NULL,
    judge TEXT NOT NULL,
    author TEXT NOT NULL,
    task INTEGER NOT NULL,
    sample INTEGER NOT NULL,
    raw REAL NOT NULL,
    truth INTEGER NOT NULL,
    PRIMARY KEY (round, judge, author, task, sample)
);
CREATE INDEX audits_by_judge ON audits (judge, round);
CREATE TABLE heldout (
    ordinal INTEGER PRIMARY KEY,     -- measured after this many rounds
    at REAL NOT NULL,
    correct INTEGER NOT NULL,
    count INTEGER NOT NULL
);
""",
    """
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,        -- what it does, such as "register"
    recipient TEXT,                  -- contract or account; NULL for a new contract
    data BLOB NOT NULL,
    value TEXT NOT NULL,             -- wei in decimal: it may exceed 64 bits
    not_before REAL NOT NULL,        -- unix seconds
    expires REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT '',
    signed TEXT NOT NULL DEFAULT '[]', -- JSON: the signed versions in hex; at most one of them can be mined
    transaction_hash TEXT            -- of the one that was mined
);
CREATE INDEX outbox_by_state ON outbox (state, id);
CREATE TABLE papers (
    sha256 TEXT PRIMARY KEY,
    body BLOB NOT NULL               -- the blob of a manifest or of a settlement's statement
);
CREATE TABLE votes (
    epoch INTEGER PRIMARY KEY,
    data_hash TEXT NOT NULL          -- SHA-256 of the statement that this peer has voted for
);
""",
    """
CREATE TABLE equivocations (
    round INTEGER NOT NULL,
    slot TEXT NOT NULL,
    peer_id TEXT NOT NULL,           -- who announced two values in it
    first BLOB NOT NULL,             -- the two announcements as signed
    second BLOB NOT NULL,
    seen_at REAL NOT NULL,           -- unix seconds
    PRIMARY KEY (slot, peer_id)
);
""",
    """
CREATE TABLE heldout_answers (
    learner TEXT NOT NULL,           -- peer, or twin: the one that learns alone
    ordinal INTEGER NOT NULL,        -- after this many rounds of its own
    correct TEXT NOT NULL,           -- 1 or 0 for each question
    PRIMARY KEY (learner, ordinal)
);
""",
)
SCHEMA_VERSION = len(_STEPS)
_NEVER = 2**62
"""After every round."""


@dataclass(frozen=True)
class RecordRow:
    """A record as it was announced, and as it was received; `body` is empty where it was not, or not accepted."""

    stage: str
    peer_id: str
    sha256: str
    announcement: bytes
    body: bytes


@dataclass(frozen=True)
class AuditRow:
    """A judge's raw verdict on an answer whose truth the verifier knows."""

    judge: str
    author: str
    task: int
    sample: int
    raw: float
    truth: bool


class OutboxState(StrEnum):
    WAITING = "waiting"
    MINED = "mined"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True)
class OutboxRow:
    """A transaction that is to be sent, or was. `value` in wei, times in unix seconds."""

    key: str
    recipient: str | None
    data: bytes
    value: int
    not_before: float
    expires: float
    state: OutboxState = OutboxState.WAITING
    attempts: int = 0
    last_error: str = ""
    signed: tuple[bytes, ...] = ()
    transaction_hash: bytes | None = None


@dataclass(frozen=True)
class LastRound:
    number: int
    ordinal: int
    checkpoint: str


class Journal:
    """Safe to use from several threads; every write is one transaction."""

    def __init__(self, path: Path) -> None:
        """Open the journal, or make it.

        Raises:
            SwarmError: it is damaged, of a later version, or the disk is full.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, timeout=10)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version < SCHEMA_VERSION:
                steps = "".join(_STEPS[version:])
                self._database.executescript(f"BEGIN; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        except sqlite3.DatabaseError as error:
            raise SwarmError(
                f"the journal {path} cannot be opened ({error}); free disk space if there is none, "
                f"or move the file away to start a new history"
            ) from error
        if version > SCHEMA_VERSION:
            raise SwarmError(
                f"the journal {path} is of version {version}, this program knows {SCHEMA_VERSION}: update it"
            )

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def get(self, key: str) -> str | None:
        with self._lock:
            row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, key: str, value: str) -> None:
        with self._lock, self._database:
            self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def last_round(self) -> LastRound | None:
        """The last complete round, from which to resume."""
        with self._lock:
            row = self._database.execute(
                "SELECT number, ordinal, checkpoint FROM rounds ORDER BY ordinal DESC LIMIT 1"
            ).fetchone()
        return LastRound(*row) if row else None

    def commit_round(
        self,
        number: int,
        ordinal: int,
        *,
        started: float,
        finished: float,
        seed: bytes,
        checkpoint: str,
        report: Mapping[str, Any],
        records: Iterable[RecordRow],
        audits: Iterable[AuditRow],
    ) -> None:
        """Write a whole round, or nothing of it."""
        with self._lock, self._database:
            self._database.execute(
                "INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, ordinal, started, finished, seed, checkpoint, json.dumps(report)),
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)",
                [(number, row.stage, row.peer_id, row.sha256, row.announcement, row.body) for row in records],
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO audits VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(number, row.judge, row.author, row.task, row.sample, row.raw, int(row.truth)) for row in audits],
            )

    def reports(self) -> list[dict[str, Any]]:
        """The reports of all complete rounds, oldest first."""
        with self._lock:
            rows = self._database.execute("SELECT report FROM rounds ORDER BY ordinal").fetchall()
        return [json.loads(row[0]) for row in rows]

    def audits_of(self, judge: str, limit: int, before: int = _NEVER) -> list[tuple[float, bool]]:
        """The newest audits of a judge in the rounds before one, as (raw score, truth): oldest first, and those of a
        round by author, task and sample, as settlements count them; older ones say less."""
        with self._lock:
            rows = self._database.execute(
                "SELECT raw, truth FROM audits WHERE judge = ? AND round < ? "
                "ORDER BY round DESC, author DESC, task DESC, sample DESC LIMIT ?",
                (judge, before, limit),
            ).fetchall()
        return [(raw, bool(truth)) for raw, truth in reversed(rows)]

    def seeds(self, first: int, last: int) -> dict[int, bytes]:
        """The seeds of the rounds from `first` to `last` that this peer has played."""
        with self._lock:
            rows = self._database.execute(
                "SELECT number, seed FROM rounds WHERE number BETWEEN ? AND ?", (first, last)
            ).fetchall()
        return dict(rows)

    def announced(self, first: int, last: int) -> list[tuple[int, str, str, bytes, bool]]:
        """What was announced in the rounds from `first` to `last`: round, stage, author, announcement, and whether the
        record is here."""
        with self._lock:
            rows = self._database.execute(
                "SELECT round, stage, peer_id, announcement, length(body) > 0 FROM records "
                "WHERE round BETWEEN ? AND ? ORDER BY round, stage, peer_id",
                (first, last),
            ).fetchall()
        return [(*row[:4], bool(row[4])) for row in rows]

    def body(self, number: int, stage: str, peer_id: str, sha256: str) -> bytes | None:
        """The blob of a record; None where it is not here."""
        with self._lock:
            row = self._database.execute(
                "SELECT body FROM records WHERE round = ? AND stage = ? AND peer_id = ? AND sha256 = ?",
                (number, stage, peer_id, sha256),
            ).fetchone()
        return row[0] if row and row[0] else None

    def bodies(self, stage: str, before: int = _NEVER) -> list[bytes]:
        """The blobs of all records of a kind in the rounds before one, as far as they are here, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT body FROM records WHERE stage = ? AND round < ? AND length(body) > 0 ORDER BY round, peer_id",
                (stage, before),
            ).fetchall()
        return [row[0] for row in rows]

    def records(self, number: int) -> list[RecordRow]:
        """The records of a round, by kind and author."""
        with self._lock:
            rows = self._database.execute(
                "SELECT stage, peer_id, sha256, announcement, body FROM records WHERE round = ? "
                "ORDER BY stage, peer_id",
                (number,),
            ).fetchall()
        return [RecordRow(*row) for row in rows]

    def keep_records(self, rows: Iterable[tuple[int, RecordRow]]) -> None:
        """Add records that came after their round, each with the number of its round."""
        with self._lock, self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)",
                [(number, row.stage, row.peer_id, row.sha256, row.announcement, row.body) for number, row in rows],
            )

    def keep_paper(self, sha256: str, body: bytes) -> None:
        """Keep the blob of a manifest or a statement."""
        with self._lock, self._database:
            self._database.execute("INSERT OR IGNORE INTO papers VALUES (?, ?)", (sha256, body))

    def paper(self, sha256: str) -> bytes | None:
        with self._lock:
            row = self._database.execute("SELECT body FROM papers WHERE sha256 = ?", (sha256,)).fetchone()
        return row[0] if row else None

    def keep_vote(self, epoch: int, data_hash: str) -> str:
        """Note for which statement this peer votes in an epoch, and return for which it does: the first one stays."""
        with self._lock, self._database:
            self._database.execute("INSERT OR IGNORE INTO votes VALUES (?, ?)", (epoch, data_hash))
            row = self._database.execute("SELECT data_hash FROM votes WHERE epoch = ?", (epoch,)).fetchone()
        return str(row[0])

    def vote(self, epoch: int) -> str | None:
        """The data hash of the statement that this peer has voted for in an epoch."""
        with self._lock:
            row = self._database.execute("SELECT data_hash FROM votes WHERE epoch = ?", (epoch,)).fetchone()
        return row[0] if row else None

    def keep_equivocation(self, number: int, slot: str, peer_id: str, first: bytes, second: bytes, at: float) -> bool:
        """Keep the proof that a peer announced two values in one slot; False where there is one."""
        with self._lock, self._database:
            return bool(
                self._database.execute(
                    "INSERT OR IGNORE INTO equivocations VALUES (?, ?, ?, ?, ?, ?)",
                    (number, slot, peer_id, first, second, at),
                ).rowcount
            )

    def equivocations(self, first: int = 0, last: int = _NEVER) -> list[tuple[int, str, str, bytes, bytes, float]]:
        """The proofs about the rounds from `first` to `last`, oldest first, as (round, slot, peer id, first, second,
        seen at)."""
        with self._lock:
            return self._database.execute(
                "SELECT * FROM equivocations WHERE round BETWEEN ? AND ? ORDER BY round, slot, peer_id", (first, last)
            ).fetchall()

    def note_heldout(self, ordinal: int, at: float, correct: int, count: int) -> None:
        with self._lock, self._database:
            self._database.execute("INSERT OR REPLACE INTO heldout VALUES (?, ?, ?, ?)", (ordinal, at, correct, count))

    def heldout(self) -> Sequence[tuple[int, int, int]]:
        """All held-out measurements as (rounds done, correct, questions), oldest first."""
        with self._lock:
            return self._database.execute("SELECT ordinal, correct, count FROM heldout ORDER BY ordinal").fetchall()

    def note_heldout_answers(self, learner: str, ordinal: int, correct: Sequence[bool]) -> None:
        """Keep which held-out questions the peer, or its twin, answered right after so many rounds of its own."""
        row = (learner, ordinal, "".join("01"[right] for right in correct))
        with self._lock, self._database:
            self._database.execute("INSERT OR REPLACE INTO heldout_answers VALUES (?, ?, ?)", row)

    def heldout_answers(self, learner: str) -> dict[int, list[bool]]:
        """What `note_heldout_answers` kept, by the number of rounds."""
        with self._lock:
            rows = self._database.execute(
                "SELECT ordinal, correct FROM heldout_answers WHERE learner = ? ORDER BY ordinal", (learner,)
            ).fetchall()
        return {ordinal: [right == "1" for right in correct] for ordinal, correct in rows}

    def put_outbox(self, row: OutboxRow) -> bool:
        """Queue a transaction. False where one with its key waits or is mined; what was given up is replaced."""
        with self._lock, self._database:
            found = self._database.execute("SELECT state FROM outbox WHERE key = ?", (row.key,)).fetchone()
            if found and found[0] in (OutboxState.WAITING, OutboxState.MINED):
                return False
            self._database.execute(
                "INSERT OR REPLACE INTO outbox (key, recipient, data, value, not_before, expires) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (row.key, row.recipient, row.data, str(row.value), row.not_before, row.expires),
            )
        return True

    def outbox(self, state: OutboxState) -> list[OutboxRow]:
        """The transactions in this state, oldest first."""
        with self._lock:
            rows = self._database.execute(f"{_OUTBOX} WHERE state = ? ORDER BY id", (state,)).fetchall()
        return [_outbox_row(row) for row in rows]

    def outbox_row(self, key: str) -> OutboxRow | None:
        with self._lock:
            row = self._database.execute(f"{_OUTBOX} WHERE key = ?", (key,)).fetchone()
        return _outbox_row(row) if row else None

    def note_signed(self, key: str, versions: Sequence[bytes]) -> None:
        """All signed versions that a queued transaction has now."""
        with self._lock, self._database:
            signed = json.dumps([version.hex() for version in versions])
            self._database.execute("UPDATE outbox SET signed = ? WHERE key = ?", (signed, key))

    def note_attempt(
        self, key: str, state: OutboxState, error: str = "", transaction_hash: bytes | None = None
    ) -> None:
        """What came of an attempt to send a queued transaction."""
        with self._lock, self._database:
            self._database.execute(
                "UPDATE outbox SET state = ?, attempts = attempts + 1, last_error = ?, transaction_hash = ? "
                "WHERE key = ?",
                (state, error, transaction_hash and transaction_hash.hex(), key),
            )


_OUTBOX = (
    "SELECT key, recipient, data, value, not_before, expires, state, attempts, last_error, signed, transaction_hash "
    "FROM outbox"
)


def _outbox_row(row: Sequence[Any]) -> OutboxRow:
    key, recipient, data, value, not_before, expires, state, attempts, error, signed, transaction_hash = row
    return OutboxRow(
        key,
        recipient,
        data,
        int(value),
        not_before,
        expires,
        OutboxState(state),
        attempts,
        error,
        tuple(bytes.fromhex(version) for version in json.loads(signed)),
        bytes.fromhex(transaction_hash) if transaction_hash else None,
    )
