"""What all messages between peers have in common: strict models, bounded JSON in zlib, notes in announcements."""

import zlib
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swarm.errors import SwarmError

PeerId = Annotated[str, Field(min_length=40, max_length=64, pattern=r"^[1-9A-HJ-NP-Za-km-z]+$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal digits."""
Raw = Annotated[float, Field(ge=-50, le=50)]
"""A judge's raw verdict: log-odds in its own scale."""


NOT_DELIVERED = "not delivered"
"""The reason for what was announced and did not come: everything else that is refused came, and broke a rule."""


class RecordRefused(SwarmError):
    """Something from a peer that this peer does not accept. `reason` is one word or two, for counting."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


class Wire(BaseModel):
    """A message: an unknown field, a wrong type or a list that is too long is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Message = TypeVar("Message", bound=Wire)


def pack(message: Wire) -> bytes:
    """A message as the bytes of a blob."""
    return zlib.compress(message.model_dump_json().encode(), level=6)


def unpack(kind: type[Message], blob: bytes, max_json_bytes: int) -> Message:
    """The message in a blob.

    Raises:
        RecordRefused: it is no such message. Never uses more memory than `max_json_bytes` and the message's own size.
    """
    try:
        inflate = zlib.decompressobj()
        text = inflate.decompress(blob, max_json_bytes)
    except zlib.error as error:
        raise RecordRefused("garbage", "a record that is not compressed as records are") from error
    if inflate.unconsumed_tail or not inflate.eof or inflate.unused_data:
        raise RecordRefused(
            "too large", f"a record that does not end within {max_json_bytes} bytes, or goes on after its end"
        )
    return _read(kind, text, "a record")


def note_bytes(note: Wire) -> bytes:
    """A note as the value of an announcement."""
    return note.model_dump_json().encode()


def read_note(kind: type[Message], value: bytes) -> Message:
    """The note in an announcement.

    Raises:
        RecordRefused: it is no such note.
    """
    return _read(kind, value, "an announcement")


def _read(kind: type[Message], text: bytes, what: str) -> Message:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise RecordRefused("garbage", f"{what} that breaks the schema: {error.errors()[0]['msg']}") from error
