"""Peers that announced two different things in one slot: noticed, told to all, left out, and reported to the contract.

Whoever meets both announcements has the proof; it is kept in the journal and put up as a blob that this peer announces
for the round, unless somebody else did. Others check both signatures and take it as their own.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import Field

from swarm.chain.outbox import Outbox
from swarm.chain.registry import Registry
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import point_of
from swarm.journal.journal import Journal
from swarm.network.announcements import Announcement, Refused, encode_record
from swarm.network.blobs import BlobRef, BlobUnavailable
from swarm.network.equivocation import MAX_MESSAGE_BYTES, Proof, decode_proofs, encode_proofs
from swarm.network.node import Network
from swarm.round.wire import Digest, RecordRefused, Wire, note_bytes, read_note

logger = logging.getLogger(__name__)

MAX_FETCHED = 8
"""Blobs of others that are fetched at one look."""
FETCH_S = 5.0
HEARSAY_S = 60.0
"""Whoever was told of an offence gives those who saw it this long to report it, so that few pay for nothing."""
REPORT_FOR_S = 86_400.0


class ProofNote(Wire):
    """Where the proofs are that a peer has about a round."""

    sha256: Digest
    size: Annotated[int, Field(gt=0, le=MAX_MESSAGE_BYTES)]


class Accuser:
    """Called by the thread that plays the rounds."""

    def __init__(
        self,
        *,
        network: Network,
        swarm: str,
        is_member: Callable[[str], bool],
        journal: Journal,
        lifetime_s: float,
        emit: Emitter,
        report: Callable[[Proof, bool], None] = lambda proof, saw_it: None,
    ) -> None:
        """`report` is called once with every new proof, and with whether this peer saw the offence itself."""
        self._network = network
        self._swarm = swarm
        self._is_member = is_member
        self._journal = journal
        self._lifetime_s = lifetime_s
        self._emit = emit
        self._report = report
        self._round = -1
        self._known: dict[tuple[str, str], Proof] = {}
        self._shared: set[tuple[str, str]] = set()
        self._looked_at: set[BlobRef] = set()

    def accused(self, number: int) -> set[str]:
        """Who is left out of a round: ask others for proofs, take them, tell them those that nobody has told.

        Without chain or network it is whoever is known to be.
        """
        if number != self._round:
            self._round, self._known, self._shared, self._looked_at = number, {}, set(), set()
        try:
            self._take(self._network.equivocations(number), saw_it=True)
            for proofs in self._of_others(number):
                self._shared.update((proof.peer_id, proof.slot) for proof in proofs)
                self._take(proofs, saw_it=False)
            if set(self._known) - self._shared:
                self._tell(number)
        except (SwarmError, OSError) as error:
            logger.warning("proofs about round %d were not exchanged, which is tried again: %s", number, error)
        return {peer_id for peer_id, _ in self._known}

    def _take(self, proofs: list[Proof], *, saw_it: bool) -> None:
        for proof in proofs:
            place = (proof.peer_id, proof.slot)
            if place in self._known or not self._is_member(proof.peer_id):
                continue
            self._known[place] = proof
            self._network.accuse(proof)
            records = encode_record(proof.first), encode_record(proof.second)
            if self._journal.keep_equivocation(proof.round, proof.slot, proof.peer_id, *records, time.time()):
                self._emit("equivocation", round=proof.round, slot=proof.slot, peer_id=proof.peer_id, saw_it=saw_it)
                self._report(proof, saw_it)

    def _of_others(self, number: int) -> Iterator[list[Proof]]:
        """The proofs that others announce and that were not looked at yet, some at a time; all are about this round."""
        wanted: dict[BlobRef, list[str]] = {}
        for peer_id, said in self._network.read(_slot(number)).items():
            try:
                note = read_note(ProofNote, said.value)
            except RecordRefused:
                continue
            wanted.setdefault(BlobRef(note.sha256, note.size), []).append(peer_id)
        new = [ref for ref in wanted if ref not in self._looked_at][:MAX_FETCHED]
        self._looked_at.update(new)
        for ref in new:
            try:
                proofs = decode_proofs(self._swarm, self._network.fetch(ref, wanted[ref], FETCH_S))
            except (BlobUnavailable, Refused) as error:
                logger.info("a proof against somebody was not accepted: %s", error)
                continue
            yield [proof for proof in proofs if proof.round == number]

    def _tell(self, number: int) -> None:
        ref = self._network.put(encode_proofs(list(self._known.values())))
        note = note_bytes(ProofNote(sha256=ref.sha256, size=ref.size))
        self._network.announce(_slot(number), note, self._lifetime_s)
        self._shared.update(self._known)
        self._looked_at.add(ref)


def reporter(registry: Registry, outbox: Outbox) -> Callable[[Proof, bool], None]:
    """Sends proofs to the contract, which destroys the stake of whom they are about; without stakes nothing is sent."""
    if not registry.terms().stake_amount:
        return lambda proof, saw_it: None

    def report(proof: Proof, saw_it: bool) -> None:
        point = point_of(proof.peer_id)
        slash = registry.transaction(
            "slashAnnouncement", point[:32], point[32:], proof.slot, _evidence(proof.first), _evidence(proof.second)
        )
        now = time.time()
        outbox.put(
            f"slash/{proof.slot}/{proof.peer_id}", slash, now + REPORT_FOR_S, now + (0.0 if saw_it else HEARSAY_S)
        )

    return report


def _evidence(said: Announcement) -> tuple[bytes, int, bytes]:
    return said.value, round(said.expires * 1000), said.signature


def _slot(number: int) -> str:
    return f"{number}/equivocations"
