"""A round as one file: the signed records, and what decides who judged whom and what a judge's scores mean."""

import base64
import binascii
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from swarm.errors import SwarmError
from swarm.round.records import MAX_BLOB_BYTES, Kind
from swarm.round.wire import Digest, PeerId, Raw, Wire

MAX_FILE_BYTES = 512 * 2**20


class ExportedRecord(Wire):
    stage: Kind
    author: PeerId
    announcement: Annotated[str, Field(max_length=3000)]
    """As its author signed it, in base64."""
    body: Annotated[str, Field(max_length=MAX_BLOB_BYTES * 3 // 2)]
    """The record's blob in base64; empty where it was not here."""


class Claim(Wire):
    """What the exporting peer says came of the round for it."""

    peer_id: PeerId
    points: float
    reward: float | None


class RoundFile(Wire):
    format: Literal["swarm round 1"] = "swarm round 1"
    swarm: Annotated[str, Field(max_length=100)]
    round: Annotated[int, Field(ge=0, lt=2**53)]
    recipe: str
    """In canonical form."""
    seed: Digest
    owners: dict[PeerId, str]
    before: tuple[str, ...]
    """The pairs of the round before."""
    spent: tuple[Digest, ...]
    """Seals that were opened before."""
    audits: dict[PeerId, tuple[tuple[Raw, bool], ...]]
    """Of each judge before the round, oldest first, as (raw score, truth)."""
    records: tuple[ExportedRecord, ...]
    claim: Claim | None
    """None in a file that holds one author alone."""

    @classmethod
    def read(cls, path: Path) -> "RoundFile":
        """
        Raises:
            SwarmError: it cannot be read, is too large, or is no such file.
        """
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise SwarmError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB, and no round has")
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise SwarmError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SwarmError(f"{path} is no round that `swarm export` wrote: {where}: {first['msg']}") from error


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """The bytes; none where it is not base64, so that whatever checks them refuses them."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""
