"""What an epoch came to, found from what this peer has and what it can fetch from others."""

import logging
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Mapping

from swarm import PROTOCOL
from swarm.chain.settlements import Settlement, Settlements
from swarm.journal.journal import Journal, RecordRow
from swarm.network.blobs import BlobRef
from swarm.recipe.schema import Recipe
from swarm.round.assignment import Owners
from swarm.round.records import StageNote
from swarm.round.wire import RecordRefused
from swarm.settlement.compute import (
    Announced,
    Basis,
    Key,
    SignedManifest,
    StatementRefused,
    check,
    counted_records,
    settle,
    valid_record,
)
from swarm.settlement.documents import MAX_MANIFESTS, Manifest, Previous, Seen, Statement, decode
from swarm.settlement.epochs import Epochs
from swarm.settlement.papers import Papers
from swarm.settlement.result import Result

logger = logging.getLogger(__name__)

MAX_EPOCHS = 16
"""A settlement covers so many epochs at most; what was unsettled for longer is lost."""
_FALSE = "false settlement "


class Recomputation:
    """Finds what an epoch came to from what this peer has and can fetch."""

    def __init__(
        self,
        *,
        swarm: str,
        recipe: Recipe,
        epochs: Epochs,
        journal: Journal,
        papers: Papers,
        chain: Settlements,
        seed_of: Callable[[int], bytes],
        owners: Owners,
    ) -> None:
        self._swarm = swarm
        self._recipe = recipe
        self._epochs = epochs
        self._journal = journal
        self._papers = papers
        self._chain = chain
        self._seed_of = seed_of
        self._owners = owners

    def basis(self, epoch: int) -> Basis:
        """On what the settlement of an epoch stands.

        Raises:
            BlobUnavailable: the statement of the settlement before it cannot be had.
            StatementRefused: that one is false.
            ChainUnavailable: no answer.
        """
        posted = self._chain.before(epoch)
        previous, before = None, None
        if posted is not None:
            previous = Previous(epoch=posted.epoch, data_hash=posted.outcome.data_hash.hex())
            before = self.settled(posted)
        first = max(previous.epoch + 1 if previous else 0, epoch + 1 - MAX_EPOCHS)
        rounds = self._epochs.rounds(first, epoch)
        return Basis(
            self._swarm,
            self._recipe,
            epoch,
            rounds,
            previous,
            before,
            self._seed_of,
            self._owners,
            self._epochs.epoch_of,
        )

    def settled(self, posted: Settlement) -> Statement:
        """The statement of a settlement that is on the chain: from here, or from others, by its hash.

        Raises:
            BlobUnavailable: nobody gives it.
            StatementRefused: this peer has found it false.
        """
        name = posted.outcome.data_hash.hex()
        why = self._journal.get(_FALSE + name)
        if why is not None:
            raise StatementRefused(
                f"the settlement of epoch {posted.epoch} is false, so nothing can stand on it: {why}"
            )
        return read_statement(self._papers.settled(name))

    def reject(self, posted: Settlement, why: StatementRefused) -> None:
        """Never build on a settlement that is on the chain."""
        self._journal.put(_FALSE + posted.outcome.data_hash.hex(), str(why))

    def manifest(self, peer_id: str, basis: Basis) -> Manifest:
        """What this peer has seen since the settlement before, and the proofs that somebody said two things at once."""
        first, last = basis.rounds.start, basis.rounds.stop - 1
        seen = self._journal.announced(first, last)
        known = {(number, stage, author, raw) for number, stage, author, raw, _ in seen}
        for number, slot, author, *both, _ in self._journal.equivocations(first, last):
            stage = slot.split("/")[1]
            seen += [(number, stage, author, raw, False) for raw in both if (number, stage, author, raw) not in known]
        return Manifest(
            protocol=PROTOCOL,
            swarm=self._swarm,
            epoch=basis.epoch,
            since=basis.previous.epoch + 1 if basis.previous else 0,
            peer_id=peer_id,
            seen=tuple(
                Seen(
                    round=number,
                    stage=stage,  # type: ignore[arg-type]
                    author=author,
                    announcement=b64encode(raw).decode(),
                    held=held,
                )
                for number, stage, author, raw, held in seen
            ),
        )

    def settle(self, basis: Basis, manifests: Mapping[str, SignedManifest]) -> Statement:
        """The settlement that follows from some manifests; records that are not here are fetched and kept."""
        counted = counted_records(basis, manifests)
        self._fetch(basis, manifests, counted)

        def body_of(key: Key, note: StageNote) -> bytes | None:
            return self._journal.body(*key, note.sha256)

        return settle(basis, manifests, counted, body_of)

    def check(self, blob: bytes, basis: Basis, least_manifests: int) -> Result:
        """What a proposed statement comes to, if it holds.

        Raises:
            StatementRefused: it does not; the sentence says what is wrong.
        """
        statement = read_statement(blob)
        if statement.epoch != basis.epoch:
            raise StatementRefused(f"it is of epoch {statement.epoch} and not of epoch {basis.epoch}")
        if len(statement.manifests) < min(least_manifests, MAX_MANIFESTS):
            raise StatementRefused(
                f"it stands on {len(statement.manifests)} manifests where {least_manifests} are needed"
            )
        check(statement, self.settle(basis, self._papers.cited(statement)))
        return Result.of(statement, blob)

    def _fetch(self, basis: Basis, manifests: Mapping[str, SignedManifest], counted: Mapping[Key, Announced]) -> None:
        holders: dict[Key, list[str]] = defaultdict(list)
        for peer, signed in manifests.items():
            for seen in signed.manifest.seen:
                if seen.held:
                    holders[seen.round, seen.stage, seen.author].append(peer)
        missing = {
            key: said
            for key, said in counted.items()
            if said.held and self._journal.body(*key, said.note.sha256) is None
        }
        blobs = self._papers.fetch(
            {BlobRef(said.note.sha256, said.note.size): [key[2], *holders[key]] for key, said in missing.items()}
        )
        kept = []
        for key, said in missing.items():
            blob = blobs.get(BlobRef(said.note.sha256, said.note.size))
            if blob is None:
                continue
            try:
                valid_record(basis, key, said.note, blob)
            except RecordRefused as error:
                logger.info("refused the %s record of %s in round %d: %s", key[1], key[2], key[0], error)
                continue
            kept.append((key[0], RecordRow(key[1], key[2], said.note.sha256, said.raw(), blob)))
        self._journal.keep_records(kept)


def read_statement(blob: bytes) -> Statement:
    """The statement in a blob.

    Raises:
        StatementRefused: it is none.
    """
    try:
        return decode(Statement, blob)
    except RecordRefused as error:
        raise StatementRefused(f"it is not a statement: {error}") from error
