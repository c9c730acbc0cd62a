"""The folder of one peer: its key, journal, checkpoints and blobs, used by one process at a time."""

import fcntl
import os
import shutil
from pathlib import Path

from swarm.errors import SwarmError

MIN_FREE_BYTES = 300 * 2**20
KEPT_CHECKPOINTS = 2
KEY_NAME = "identity.key"
JOURNAL_NAME = "journal.sqlite"


class Home:
    """A peer's folder, locked for as long as this object is open."""

    def __init__(self, path: Path) -> None:
        """Make and lock the folder.

        Raises:
            HomeInUse: another process has it.
            SwarmError: it cannot be written, or the disk is nearly full.
        """
        self.path = path.expanduser().resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SwarmError(
                f"the home {self.path} cannot be used: {error.strerror}; name another with --home"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise HomeInUse(
                f"the home {self.path} is in use by another peer; end that one, or name another folder with --home"
            ) from error
        free = shutil.disk_usage(self.path).free
        if free < MIN_FREE_BYTES:
            self.close()
            raise SwarmError(
                f"only {free // 2**20} MB are free for {self.path}; a peer needs {MIN_FREE_BYTES // 2**20} MB: "
                f"free some, or name a folder on another disk with --home"
            )

    @property
    def key_file(self) -> Path:
        return self.path / KEY_NAME

    @property
    def journal_file(self) -> Path:
        return self.path / JOURNAL_NAME

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def log_file(self) -> Path:
        return self.path / "peer.log"

    @property
    def twin(self) -> Path:
        """The checkpoint of the peer's solo twin."""
        return self.path / "twin"

    def checkpoint(self, name: str) -> Path:
        return self.path / "checkpoints" / name

    def forget_checkpoints(self, keep: str) -> None:
        """Delete all checkpoints but the newest few and the one to keep."""
        folder = self.path / "checkpoints"
        if not folder.is_dir():
            return
        names = sorted((entry.name for entry in folder.iterdir()), reverse=True)
        kept = {keep, *[name for name in names if name <= keep][:KEPT_CHECKPOINTS]}
        for name in names:
            if name not in kept:
                shutil.rmtree(folder / name, ignore_errors=True)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class HomeInUse(SwarmError):
    """Another process has this home."""
