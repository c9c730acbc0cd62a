"""What a record must be before it is stored here or believed from others, entry by entry."""

import time
from collections import Counter, OrderedDict
from collections.abc import Collection
from hashlib import blake2b

import msgpack
from hivemind.dht.validation import DHTRecord, RecordValidatorBase

from swarm.network.announcements import Announcement, Refused, check_record

_MAX_VERIFIED = 20_000

Entry = tuple[object, bytes, float]
"""Subkey, value and expiry, as a hivemind dictionary holds them."""


class AnnouncementValidator(RecordValidatorBase):
    """`check_record` as hivemind calls it, with a memory of what was verified and counts of what was refused."""

    def __init__(self, swarm_id: str, refused: "Counter[str]") -> None:
        self._swarm_id = swarm_id
        self.refused = refused
        self.bad = 0
        """How many records no honest node would send."""
        self._verified: OrderedDict[tuple[bytes, str, bytes, float], Announcement] = OrderedDict()

    def validate(self, record: DHTRecord) -> bool:
        try:
            subkey = decode_subkey(record.subkey)
        except Refused as error:
            self.refused[error.reason] += 1
            return False
        return self.check(record.key, subkey, record.value, record.expiration_time) is not None

    def check(self, key: bytes, subkey: object, raw: bytes, expires: float) -> Announcement | None:
        """The announcement, or None after counting why not."""
        now = time.time()
        memo = (key, subkey, raw, expires) if isinstance(subkey, str) else None
        known = self._verified.get(memo) if memo else None
        if memo and known is not None:
            if known.expires > now:
                self._verified.move_to_end(memo)
                return known
            self.refused["expired"] += 1
            return None
        try:
            announcement = check_record(self._swarm_id, key, subkey, raw, expires, now)
        except Refused as error:
            self.refused[error.reason] += 1
            self.bad += error.reason != "expired"
            return None
        if memo:
            self._verified[memo] = announcement
        while len(self._verified) > _MAX_VERIFIED:
            self._verified.popitem(last=False)
        return announcement


def decode_dictionary(raw: bytes) -> list[Entry]:
    """The entries of a hivemind dictionary value, without hivemind's own recursive decoder.

    Raises:
        Refused: the bytes are not such a dictionary. No other exception.
    """
    try:
        outer = msgpack.unpackb(raw, raw=False)
        if not isinstance(outer, msgpack.ExtType) or outer.code != 0x50:
            raise Refused("plain value")
        _, _, items = msgpack.unpackb(outer.data, raw=False)
        entries: list[Entry] = []
        for subkey, value, expires in items:
            if not isinstance(value, bytes) or not isinstance(expires, float):
                raise Refused("malformed record")
            entries.append((subkey, value, expires))
        return entries
    except Refused:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, msgpack.UnpackException):
        raise Refused("malformed record") from None


SALT_BYTES = 8
_TAG_BYTES = 4


def encode_tags(salt: bytes, records: Collection[bytes]) -> bytes:
    """What a reader tells about the records that it has, so that nobody sends them again.

    The salt is new in every request: nobody can make a record that passes for another one's.
    """
    return salt + b"".join(_tag(salt, raw) for raw in records)


def without(records: dict[str, tuple[bytes, float]], tags: bytes) -> dict[str, tuple[bytes, float]]:
    """The records, by writer, whose tags are not among those of `encode_tags`."""
    salt, known = tags[:SALT_BYTES], tags[SALT_BYTES:]
    had = {known[start : start + _TAG_BYTES] for start in range(0, len(known), _TAG_BYTES)}
    return {writer: entry for writer, entry in records.items() if not had or _tag(salt, entry[0]) not in had}


def _tag(salt: bytes, raw: bytes) -> bytes:
    return blake2b(raw, digest_size=_TAG_BYTES, key=salt).digest()


def decode_subkey(tag: bytes) -> object:
    """The subkey of a record as hivemind packs it.

    Raises:
        Refused: the bytes are no such subkey. No other exception.
    """
    try:
        return msgpack.unpackb(tag, raw=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        raise Refused("malformed record") from None
