"""Files with secrets: for the eyes of their user alone, and complete or not there at all."""

import os
from pathlib import Path

from swarm.errors import SwarmError


def write_private(path: Path, content: bytes) -> None:
    """Make a file of mode 0600 that is on disk when this returns. What was there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_private(path: Path, what: str) -> bytes:
    """The content of the file, which is `what`, such as "the key file".

    Raises:
        SwarmError: it cannot be read, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SwarmError(f"{what} {path} can be read by others; make it yours alone with: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise SwarmError(f"{what} {path} cannot be read: {error.strerror}") from error
