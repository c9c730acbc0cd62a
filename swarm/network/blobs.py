"""Blobs on disk, named by their content.

Promise: what `get` returns has the size and sha256 that the reference says; a blob is either wholly there or not at
all; file names come from verified digests only; the folder stays within its quota, the least recently used blob going
first.
"""

import hashlib
import os
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import SwarmError
from swarm.network.announcements import Refused

MAX_BLOB_BYTES = 64 * 1024**2
UNARY_MAX_BYTES = 1024**2
CHUNK_BYTES = 256 * 1024
DEFAULT_QUOTA_BYTES = 2 * 1024**3

_REQUEST_VERSION = 2
REQUEST_BYTES = 1 + 32 + 8 + 8
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobUnavailable(SwarmError):
    """No provider served the blob in time."""


@dataclass(frozen=True)
class BlobRef:
    """What a blob is: lower-case hex sha256 and size in bytes. Raises ValueError for anything that is no such pair."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, str) or not _DIGEST.fullmatch(self.sha256):
            raise ValueError(f"not a lower-case hex sha256: {self.sha256!r}")
        if type(self.size) is not int or not 0 <= self.size <= MAX_BLOB_BYTES:
            raise ValueError(f"a blob has 0 to {MAX_BLOB_BYTES} bytes, not {self.size!r}")

    @classmethod
    def of(cls, data: bytes) -> "BlobRef":
        """The reference of some bytes. Raises ValueError above 64 MiB."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    def matches(self, data: bytes | bytearray) -> bool:
        """Whether `data` is the blob."""
        return len(data) == self.size and hashlib.sha256(data).hexdigest() == self.sha256


def encode_request(ref: BlobRef, start: int = 0) -> bytes:
    """A request for a blob from its byte `start` on, 49 bytes."""
    return (
        bytes([_REQUEST_VERSION]) + bytes.fromhex(ref.sha256) + ref.size.to_bytes(8, "big") + start.to_bytes(8, "big")
    )


def decode_request(raw: bytes) -> tuple[BlobRef, int]:
    """The blob that is asked for, and from which byte on. Raises Refused, and nothing else, for no such request."""
    if len(raw) != REQUEST_BYTES or raw[0] != _REQUEST_VERSION:
        raise Refused("malformed blob request")
    try:
        ref = BlobRef(raw[1:33].hex(), int.from_bytes(raw[33:41], "big"))
    except ValueError:
        raise Refused("malformed blob request") from None
    start = int.from_bytes(raw[41:], "big")
    if start and start >= ref.size:
        raise Refused("malformed blob request")
    return ref, start


class BlobStore:
    """One folder that belongs to this peer alone. Safe to use from several threads."""

    def __init__(self, folder: Path, quota_bytes: int = DEFAULT_QUOTA_BYTES) -> None:
        if quota_bytes < MAX_BLOB_BYTES:
            raise ValueError(f"the quota must hold one blob of {MAX_BLOB_BYTES} bytes, {quota_bytes} is less")
        self._folder = folder
        self._quota = quota_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()  # least recently used first
        folder.mkdir(parents=True, exist_ok=True)
        found: list[tuple[float, str, int]] = []
        for path in folder.iterdir():
            if path.name.endswith(".partial"):
                path.unlink(missing_ok=True)
            elif _DIGEST.fullmatch(path.name) and path.is_file():
                status = path.stat()
                found.append((status.st_mtime, path.name, status.st_size))
        for _, name, size in sorted(found):
            self._sizes[name] = size
        self._total = sum(self._sizes.values())
        self._evict()

    def put(self, data: bytes) -> BlobRef:
        """Keep `data`. Raises ValueError above 64 MiB and OSError if the disk refuses."""
        ref = BlobRef.of(data)
        with self._lock:
            if self._sizes.get(ref.sha256) == ref.size:
                self._touch(ref.sha256)
                return ref
            partial = self._folder / f"{ref.sha256}.partial"
            partial.write_bytes(data)
            os.replace(partial, self._folder / ref.sha256)
            self._total += ref.size - self._sizes.pop(ref.sha256, 0)
            self._sizes[ref.sha256] = ref.size
            self._evict()
        return ref

    def get(self, ref: BlobRef) -> bytes | None:
        """The blob, or None if it is not held here. A file that was damaged on disk is dropped and not held."""
        with self._lock:
            if self._sizes.get(ref.sha256) != ref.size:
                return None
            path = self._folder / ref.sha256
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                data = b""
            if ref.matches(data):
                self._touch(ref.sha256)
                return data
            path.unlink(missing_ok=True)
            self._total -= self._sizes.pop(ref.sha256)
            return None

    def _touch(self, name: str) -> None:
        self._sizes.move_to_end(name)
        try:
            os.utime(self._folder / name)
        except FileNotFoundError:
            pass  # get() notices

    def _evict(self) -> None:
        while self._total > self._quota:
            name, size = self._sizes.popitem(last=False)
            (self._folder / name).unlink(missing_ok=True)
            self._total -= size
