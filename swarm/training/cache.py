"""Where models that this project built or converted are kept, and how one appears there: complete or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from swarm.errors import SwarmError


def root() -> Path:
    """`SWARM_CACHE`, or the user's cache directory."""
    return Path(os.environ.get("SWARM_CACHE") or user_cache_dir("rl-swarm")).expanduser()


def make_once(name: str, needed_bytes: int, make: Callable[[Path], None], progress: Callable[[str], None]) -> Path:
    """The cached directory `name`, made by `make(empty directory)` if it is not there; of several processes that ask
    at once, one makes it and the others wait.

    Raises:
        SwarmError: the cache cannot be written or its disk has less than `needed_bytes` free; whatever `make` raises.
    """
    target = root() / name
    if target.is_dir():
        return target
    try:
        root().mkdir(parents=True, exist_ok=True)
        lock = FileLock(root() / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"Another process on this machine is preparing {name}; waiting for it ...")
            lock.acquire()
    except OSError as error:
        raise SwarmError(
            f"the cache {root()} cannot be written: {error.strerror}; point SWARM_CACHE to a directory that can"
        ) from error
    try:
        if target.is_dir():
            return target
        free = shutil.disk_usage(root()).free
        if free < needed_bytes:
            raise SwarmError(
                f"{name} needs {needed_bytes / 1e9:.1f} GB in {root()}, where {free / 1e9:.1f} GB are free; "
                "make room or point SWARM_CACHE to another disk"
            )
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root()) as unfinished:
            made = Path(unfinished) / "model"
            made.mkdir()
            make(made)
            os.replace(made, target)
        return target
    finally:
        lock.release()
