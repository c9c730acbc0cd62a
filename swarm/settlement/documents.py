"""What peers send each other about an epoch: typed, bounded, strict.

Manifests and statements travel as zlib-compressed JSON in content-addressed blobs; signed announcements name them.
"""

from base64 import b64decode
from typing import Annotated, TypeVar

from pydantic import Field

from swarm import PROTOCOL
from swarm.round.records import Kind
from swarm.round.wire import Digest, PeerId, Raw, RecordRefused, Wire, pack, unpack

MAX_BYTES = 16 * 2**20
"""Of a manifest's or a statement's blob."""
_MAX_JSON_BYTES = 64 * 2**20
MAX_MANIFESTS = 64
"""In a statement: those of the first peers in the order of proposers."""
_MAX_RECORDS = 100_000
_MAX_PEERS = 20_000

Round = Annotated[int, Field(ge=0, lt=2**53)]
Epoch = Annotated[int, Field(ge=0, lt=2**53)]
Announced = Annotated[str, Field(max_length=3000, pattern=r"^[A-Za-z0-9+/]+=*$")]
"""The bytes of a signed announcement in base64."""
Hex65 = Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")]
Count = Annotated[int, Field(ge=0, lt=2**128)]

Document = TypeVar("Document", "Manifest", "Statement")


class Seen(Wire):
    """A record whose announcement a peer saw in time."""

    round: Round
    stage: Kind
    author: PeerId
    announcement: Announced
    held: bool
    """Whether the peer also has the record itself, checked, and gives it to others."""


class Manifest(Wire):
    """What one peer has seen since the last settlement."""

    protocol: Annotated[int, Field(ge=PROTOCOL, le=PROTOCOL)]
    swarm: Annotated[str, Field(max_length=100)]
    epoch: Epoch
    since: Epoch
    """The first epoch that it covers."""
    peer_id: PeerId
    seen: Annotated[tuple[Seen, ...], Field(max_length=_MAX_RECORDS)]


class Signed(Wire):
    """A manifest that went into a statement."""

    peer_id: PeerId
    announcement: Announced

    def raw(self) -> bytes:
        """The bytes of the announcement; Refused by whoever reads them where they are none."""
        try:
            return b64decode(self.announcement)
        except ValueError:
            return b""


class Counted(Wire):
    """A record that a settlement counts."""

    round: Round
    stage: Kind
    author: PeerId
    announcement: Announced
    points: Annotated[int, Field(gt=-(2**53), lt=2**53)] | None
    """What it contributes to its author's round, in millionths of a point; None where nobody gives a valid record, and
    where its author said two different things in that round."""


class Previous(Wire):
    """The settlement on which another one stands."""

    epoch: Epoch
    data_hash: Digest


class Statement(Wire):
    """A whole settlement: what went into it and what came out. Its SHA-256 is on the chain."""

    protocol: Annotated[int, Field(ge=PROTOCOL, le=PROTOCOL)]
    swarm: Annotated[str, Field(max_length=100)]
    epoch: Epoch
    previous: Previous | None
    manifests: Annotated[tuple[Signed, ...], Field(max_length=MAX_MANIFESTS)]
    records: Annotated[tuple[Counted, ...], Field(max_length=_MAX_RECORDS)]
    audits: Annotated[dict[PeerId, tuple[tuple[Raw, bool], ...]], Field(max_length=_MAX_PEERS)]
    """The newest audits of every judge after this epoch, oldest first, as (raw score, truth)."""
    spent: Annotated[tuple[Digest, ...], Field(max_length=_MAX_RECORDS)]
    """The seals that were opened so far, in ascending order: what everybody knows is no audit."""
    points: Annotated[dict[PeerId, Count], Field(max_length=_MAX_PEERS)]
    """Cumulative points of every peer in millionths."""


class BlobNote(Wire):
    """The value of an announcement of a manifest or a proposed statement."""

    sha256: Digest
    size: Annotated[int, Field(gt=0, le=MAX_BYTES)]


class VoteNote(Wire):
    """The value of a vote: the contract takes its signature."""

    root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    data_hash: Digest
    size: Annotated[int, Field(gt=0, le=MAX_BYTES)]
    """Of the statement's blob."""
    total: Count
    signature: Hex65
    """EIP-712, by the peer key, over epoch, root, data hash and total."""


class SettledNote(Wire):
    """The value of the announcement by which newcomers find the newest settlement's statement."""

    epoch: Epoch
    data_hash: Digest
    size: Annotated[int, Field(gt=0, le=MAX_BYTES)]


def encode(document: Manifest | Statement) -> bytes:
    """A document as the bytes of a blob."""
    return pack(document)


def decode(kind: type[Document], blob: bytes) -> Document:
    """A document from a blob.

    Raises:
        RecordRefused: it is too large, or breaks the schema.
    """
    if len(blob) > MAX_BYTES:
        raise RecordRefused("too large", f"a document of {len(blob)} bytes; at most {MAX_BYTES} are allowed")
    return unpack(kind, blob, _MAX_JSON_BYTES)
