"""Signed announcements: what a peer says in public, in one small record that anybody can check.

Promise: a record that passes `check_record` was written by the key of its peer id, for exactly this swarm, slot and
expiry, and lies under the only DHT key where readers of that slot look. A storing node and a reader use the same check,
so nothing that a reader would refuse is served by an honest node. Pure: no network and no clock.
"""

import re
from dataclasses import dataclass

from swarm.identity.key import PEER_ID_MAX_CHARS, SIGNATURE_BYTES, Identity, digest, verify

SHARDS = 16
"""A slot is spread over this many DHT keys, so that one key's records stay below 64 KB with 1000 writers. Protocol
constant."""
MAX_VALUE_BYTES = 1024
MAX_LIFETIME_S = 3600.0
CLOCK_SLACK_S = 60.0
"""How far ahead the clock of a writer may be before its record counts as living too long."""
KEY_BYTES = 20
_SAME_BITS = 0xF0
"""A sixteenth of the DHT for all shards of a round's slot. Protocol constant."""

_VERSION = 1
_SLOT = re.compile(r"[!-~]{1,128}")
_OF_ROUND = re.compile(r"[0-9]+/")
_HEADER_BYTES = 1 + 1 + 8 + SIGNATURE_BYTES
MAX_RECORD_BYTES = _HEADER_BYTES + 128 + MAX_VALUE_BYTES
_MAX_EXPIRY_MS = 2**52  # exact as a float of milliseconds, and far beyond any date


class Refused(ValueError):
    """A record or request that breaks the protocol. `reason` is a short fixed word group, fit for counting."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Announcement:
    """A value under the writer's name in a slot, until `expires` (unix seconds)."""

    peer_id: str
    slot: str
    value: bytes
    expires: float
    signature: bytes


def announcement_digest(swarm_id: str, slot: str, peer_id: str, value: bytes, expiry_ms: int) -> bytes:
    """The 32 bytes that the writer signs."""
    return digest(
        "swarm announcement 1", swarm_id.encode(), slot.encode(), peer_id.encode(), value, expiry_ms.to_bytes(8, "big")
    )


def make(identity: Identity, swarm_id: str, slot: str, value: bytes, expiry_ms: int) -> Announcement:
    """Sign an announcement. Raises ValueError if slot, value or expiry (unix milliseconds) is out of bounds."""
    if not _SLOT.fullmatch(slot):
        raise ValueError(f"a slot has 1 to 128 visible ASCII characters, not {slot!r}")
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"an announcement holds at most {MAX_VALUE_BYTES} bytes, not {len(value)}: put a blob")
    if not 0 < expiry_ms < _MAX_EXPIRY_MS:
        raise ValueError(f"{expiry_ms} is not an expiry in unix milliseconds")
    signature = identity.sign(announcement_digest(swarm_id, slot, identity.peer_id, value, expiry_ms))
    return Announcement(identity.peer_id, slot, value, expiry_ms / 1000, signature)


def shard_of(peer_id: str) -> int:
    """The shard in which a peer's announcements lie, the same in every slot."""
    return int.from_bytes(digest("swarm shard 1", peer_id.encode())[:8], "big") % SHARDS


def record_key(swarm_id: str, slot: str, shard: int) -> bytes:
    """The 20-byte DHT key of one shard of a slot.

    All keys of a round's slot begin with the same bits, so they lie in one part of the DHT. In a small swarm these are
    few nodes, each of which is asked once for all shards; in a large one there are enough for each shard to have its
    own. Other slots, that of the heartbeats among them, stay where peers of all versions look.
    """
    if not _OF_ROUND.match(slot):
        return digest("swarm key 1", swarm_id.encode(), slot.encode(), bytes([shard]))[:KEY_BYTES]
    place = digest("swarm slot 2", swarm_id.encode(), slot.encode())[0] & _SAME_BITS
    key = digest("swarm key 2", swarm_id.encode(), slot.encode(), bytes([shard]))[:KEY_BYTES]
    return bytes([place | key[0] & ~_SAME_BITS]) + key[1:]


def encode_record(announcement: Announcement) -> bytes:
    """The bytes that are stored in the DHT: version, slot, expiry, signature, value. The peer id is the subkey."""
    slot = announcement.slot.encode()
    expiry_ms = round(announcement.expires * 1000)
    return (
        bytes([_VERSION, len(slot)]) + slot + expiry_ms.to_bytes(8, "big") + announcement.signature + announcement.value
    )


def check_record(
    swarm_id: str,
    key: bytes,
    subkey: object,
    raw: bytes,
    expires: float,
    now: float,
    *,
    max_bytes: int = MAX_RECORD_BYTES,
) -> Announcement:
    """The announcement in a DHT entry, fully verified.

    Raises:
        Refused: whatever is wrong with it. No other exception, for any input of the declared types.
    """
    if not isinstance(subkey, str):
        raise Refused("plain value")
    if len(raw) > max_bytes:
        raise Refused("too large")
    if len(subkey) > PEER_ID_MAX_CHARS or not subkey.isascii():
        raise Refused("foreign subkey")
    unsigned, expiry_ms = _parse(subkey, raw)
    if expires != expiry_ms / 1000:
        raise Refused("wrong expiry")
    if expires > now + MAX_LIFETIME_S + CLOCK_SLACK_S:
        raise Refused("expiry too far")
    if expires <= now:
        raise Refused("expired")
    if key != record_key(swarm_id, unsigned.slot, shard_of(subkey)):
        raise Refused("wrong key")
    return _verified(swarm_id, unsigned, expiry_ms)


def decode_record(swarm_id: str, peer_id: str, raw: bytes) -> Announcement:
    """The announcement in the bytes of `encode_record`, whenever it was made.

    Raises:
        Refused: it is malformed, too large, or not signed by `peer_id` for this swarm. No other exception.
    """
    if len(raw) > MAX_RECORD_BYTES:
        raise Refused("too large")
    return _verified(swarm_id, *_parse(peer_id, raw))


def _parse(peer_id: str, raw: bytes) -> tuple[Announcement, int]:
    """The announcement before its signature is checked, and its expiry in milliseconds."""
    if len(raw) < _HEADER_BYTES or raw[0] != _VERSION or len(raw) < _HEADER_BYTES + raw[1]:
        raise Refused("malformed record")
    slot_end = 2 + raw[1]
    try:
        slot = raw[2:slot_end].decode("ascii")
    except UnicodeDecodeError:
        raise Refused("malformed record") from None
    expiry_ms = int.from_bytes(raw[slot_end : slot_end + 8], "big")
    signature = raw[slot_end + 8 : slot_end + 8 + SIGNATURE_BYTES]
    value = raw[slot_end + 8 + SIGNATURE_BYTES :]
    if not _SLOT.fullmatch(slot) or not 0 < expiry_ms < _MAX_EXPIRY_MS:
        raise Refused("malformed record")
    if len(value) > MAX_VALUE_BYTES:
        raise Refused("too large")
    return Announcement(peer_id, slot, value, expiry_ms / 1000, signature), expiry_ms


def _verified(swarm_id: str, said: Announcement, expiry_ms: int) -> Announcement:
    signed = announcement_digest(swarm_id, said.slot, said.peer_id, said.value, expiry_ms)
    if not verify(said.peer_id, signed, said.signature):
        raise Refused("bad signature")
    return said
