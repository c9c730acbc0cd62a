"""Two words in one slot: noticed by whoever stores or reads both, and kept as proof that anybody can check.

Promise: a `Proof` holds two announcements of one peer in one slot where it may speak once, with different values, both
signed by its key; it is what the registry's `slashAnnouncement` takes. Nobody can make one about a peer that is honest.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.network.announcements import MAX_RECORD_BYTES, Announcement, Refused, decode_record, encode_record

FINAL_SLOT = re.compile(r"([0-9]{1,20})/(answer|critique|revise)")
"""Slots in which a peer speaks once. The contract's Announcements.isFinalSlot says the same."""
MAX_PROOFS = 32
"""In one message."""
MAX_MESSAGE_BYTES = MAX_PROOFS * (1 + 64 + 2 * (2 + MAX_RECORD_BYTES))
_MAX_WORDS, _MAX_PROOFS_KEPT = 20_000, 1000
_VERSION = 1


@dataclass(frozen=True)
class Proof:
    """The two announcements, in the order of their bytes, so that everybody who finds both has the same proof."""

    first: Announcement
    second: Announcement

    @classmethod
    def of(cls, one: Announcement, other: Announcement) -> "Proof":
        """Raises Refused if these two are no proof. Their signatures are not checked here."""
        if (one.peer_id, one.slot) != (other.peer_id, other.slot) or one.value == other.value:
            raise Refused("no equivocation")
        if not FINAL_SLOT.fullmatch(one.slot):
            raise Refused("no equivocation")
        return cls(*sorted((one, other), key=encode_record))

    @property
    def peer_id(self) -> str:
        return self.first.peer_id

    @property
    def slot(self) -> str:
        return self.first.slot

    @property
    def round(self) -> int:
        return int(self.slot.split("/")[0])


class Witness:
    """Remembers who said what in slots where one speaks once. Fed with verified announcements only, from any thread."""

    def __init__(self) -> None:
        self._words: OrderedDict[tuple[str, str], Announcement] = OrderedDict()
        self._proofs: OrderedDict[tuple[str, str], Proof] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, said: Announcement) -> None:
        """Compare an announcement with what its writer said before in that slot."""
        if not FINAL_SLOT.fullmatch(said.slot):
            return
        place = (said.peer_id, said.slot)
        before = self._words.setdefault(place, said)
        if before.value != said.value:
            self.keep(Proof.of(before, said))
        while len(self._words) > _MAX_WORDS:
            self._words.popitem(last=False)

    def keep(self, proof: Proof) -> None:
        """One proof for each peer and slot is kept, the first one."""
        with self._lock:
            self._proofs.setdefault((proof.peer_id, proof.slot), proof)
            while len(self._proofs) > _MAX_PROOFS_KEPT:
                self._proofs.popitem(last=False)

    def proofs(self, number: int) -> list[Proof]:
        """The proofs about a round."""
        with self._lock:
            return [proof for proof in self._proofs.values() if proof.round == number]


def encode_proofs(proofs: Sequence[Proof]) -> bytes:
    """At most MAX_PROOFS proofs as the bytes of a blob."""
    parts = [bytes([_VERSION])]
    for proof in proofs[:MAX_PROOFS]:
        parts.append(_part(proof.peer_id.encode()))
        parts += [_part(encode_record(said)) for said in (proof.first, proof.second)]
    return b"".join(parts)


def decode_proofs(swarm_id: str, raw: bytes) -> list[Proof]:
    """The proofs in a blob, every signature checked.

    Raises:
        Refused: it is malformed, or one of them proves nothing. No other exception.
    """
    if not raw or raw[0] != _VERSION or len(raw) > MAX_MESSAGE_BYTES:
        raise Refused("malformed proof")
    parts: list[bytes] = []
    place = 1
    while place < len(raw):
        end = place + 2 + int.from_bytes(raw[place : place + 2], "big")
        if end > len(raw) or len(parts) >= 3 * MAX_PROOFS:
            raise Refused("malformed proof")
        parts.append(raw[place + 2 : end])
        place = end
    if len(parts) % 3:
        raise Refused("malformed proof")
    return [
        Proof.of(*(decode_record(swarm_id, _name(parts[index]), record) for record in parts[index + 1 : index + 3]))
        for index in range(0, len(parts), 3)
    ]


def _name(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise Refused("malformed proof") from None


def _part(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "big") + raw
