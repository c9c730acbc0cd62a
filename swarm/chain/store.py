"""Key-value storage of the development chain in one SQLite file.

Everything written inside `atomic()` reaches the disk together or not at all, also when the process is killed.
"""

import sqlite3
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


class SqliteStore(MutableMapping[bytes, bytes]):
    """A mapping of bytes to bytes on disk, for one thread at a time.

    Raises:
        sqlite3.DatabaseError: the file is no such store.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        # In WAL mode NORMAL survives a killed process; only a power cut may lose the last blocks, never the file.
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(_SCHEMA)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Commit all writes of the block at its end, or none of them if it raises. Does not nest."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def __getitem__(self, key: bytes) -> bytes:
        row = self._connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return row[0]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, value))

    def __delitem__(self, key: bytes) -> None:
        if self._connection.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount == 0:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._connection.execute("SELECT 1 FROM entries WHERE key = ?", (key,)).fetchone() is not None

    def between(self, first: bytes, last: bytes) -> Iterator[bytes]:
        """The keys from `first` to `last`, both included, in order."""
        query = "SELECT key FROM entries WHERE key BETWEEN ? AND ? ORDER BY key"
        return (row[0] for row in self._connection.execute(query, (first, last)))

    def __iter__(self) -> Iterator[bytes]:
        return (row[0] for row in self._connection.execute("SELECT key FROM entries ORDER BY key"))

    def __len__(self) -> int:
        return self._connection.execute("SELECT COUNT(*) FROM entries").fetchone()[0]

    def close(self) -> None:
        """Close the file. The store cannot be used afterwards."""
        self._connection.close()
