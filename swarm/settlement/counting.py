"""One epoch as one peer settles it: say what was seen, propose or check a proposal, vote, and see it onto the chain."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from swarm.chain.settlements import Attestation, Outcome, Settlement, Settlements
from swarm.events import Emitter
from swarm.identity.key import Identity
from swarm.journal.journal import Journal
from swarm.network.blobs import BlobUnavailable
from swarm.settlement.compute import Basis, RecordMissing, StatementRefused
from swarm.settlement.documents import MAX_MANIFESTS, BlobNote, VoteNote, encode
from swarm.settlement.epochs import Epochs, proposers
from swarm.settlement.papers import MAX_SIZES, Papers, raw_notes
from swarm.settlement.recomputation import Recomputation, read_statement
from swarm.settlement.result import Result


class Counting:
    """One epoch on its way to the chain. `step` is called again and again; it never waits for others."""

    def __init__(
        self,
        epoch: int,
        *,
        identity: Identity,
        epochs: Epochs,
        journal: Journal,
        papers: Papers,
        chain: Settlements,
        recomputation: Recomputation,
        seed: bytes,
        post: Callable[[int, Collection[Attestation]], None],
        emit: Emitter,
    ) -> None:
        """
        Args:
            seed: of the epoch: draws the order of proposers.
            post: see the votes of a quorum onto the chain.
        """
        self.epoch = epoch
        self.result: Result | None = None
        """What this peer found or agreed to, and voted for."""
        self._identity = identity
        self._me = identity.peer_id
        self._epochs = epochs
        self._journal = journal
        self._papers = papers
        self._chain = chain
        self._recomputation = recomputation
        self._seed = seed
        self._post = post
        self._emit = emit
        self._basis: Basis | None = None
        self._refused: set[str] = set()
        self._proposed = False
        self._quorum_since: float | None = None
        self._handed_in = False

    def step(self, now: float) -> None:
        """Do what is due at `now` (unix seconds).

        Raises:
            SwarmError: chain or network do not answer; call again later.
        """
        if self._basis is None:
            basis = self._recomputation.basis(self.epoch)
            self._papers.publish_manifest(self._recomputation.manifest(self._me, basis))
            self._basis = basis
            self._resume_vote()
        turn = self._epochs.turn(self.epoch, now)
        if turn < 0:
            return
        notes = self._papers.manifest_notes(self.epoch)
        order = proposers(self._seed, self._chain.active(self.epoch, list(notes)))
        if self.result is None:
            self._find_result(self._basis, order, turn, raw_notes(notes))
        if self.result is not None and not self._handed_in and self._me in order:
            self._hand_in(self.result.outcome, order.index(self._me), now)

    def votes(self) -> dict[Outcome, list[Attestation]]:
        """The valid votes of active peers, by what they are for."""
        found: dict[Outcome, list[Attestation]] = defaultdict(list)
        notes = self._papers.votes(self.epoch)
        for peer in self._chain.active(self.epoch, list(notes)):
            note = notes[peer]
            outcome = Outcome(bytes.fromhex(note.root), bytes.fromhex(note.data_hash), note.total)
            given = Attestation(peer, outcome, bytes.fromhex(note.signature))
            if self._chain.is_signed(self.epoch, given):
                found[outcome].append(given)
        return found

    def examine(self, posted: Settlement) -> None:
        """Whether a settlement that is on the chain holds, though this peer has not voted for it.

        Raises:
            StatementRefused: it does not.
            RecordMissing, BlobUnavailable: a record or the statement cannot be had.
        """
        basis = self._basis or self._recomputation.basis(self.epoch)
        blob = self._blob_of(posted)
        result = self._recomputation.check(blob, basis, self._chain.quorum(self.epoch))
        if result.outcome != posted.outcome:
            raise StatementRefused("its root on the chain is not that of the points in its statement")
        self._journal.keep_paper(posted.outcome.data_hash.hex(), blob)

    def vote_for_own(self) -> None:
        """Vote for what this peer finds by itself, so that the others see that it does not agree."""
        if self.result is None and self._basis is not None:
            notes = self._papers.manifest_notes(self.epoch)
            found = self._find(self._basis, self._chain.active(self.epoch, list(notes)), raw_notes(notes))
            if found is not None:
                self._agree(found)

    def _resume_vote(self) -> None:
        """After a restart: the vote of before stands, a second one would be provably false."""
        data_hash = self._journal.vote(self.epoch)
        blob = self._journal.paper(data_hash) if data_hash else None
        if blob is not None:
            self._agree(Result.of(read_statement(blob), blob))

    def _find_result(
        self, basis: Basis, order: list[str], turn: int, notes: Mapping[str, tuple[bytes, BlobNote]]
    ) -> None:
        proposals = self._papers.proposals(self.epoch)
        for peer in order[: turn + 1]:
            note = proposals.get(peer)
            if peer == self._me and not self._proposed:
                self._proposed = True
                found = self._find(basis, order, notes)
                if found is not None:
                    self._papers.propose(self.epoch, found.blob)
                    self._say("proposed", f"proposes {_points(found)} for epoch {self.epoch}")
                    self._agree(found)
                    return
            elif note is not None and note.sha256 not in self._refused:
                try:
                    blob = self._papers.statement(note.sha256, note.size, [peer])
                    self._agree(self._recomputation.check(blob, basis, self._chain.quorum(self.epoch)))
                    return
                except (BlobUnavailable, RecordMissing):
                    continue  # it may come
                except StatementRefused as error:
                    self._refused.add(note.sha256)
                    self._say("refused", f"does not sign what {peer} proposes for epoch {self.epoch}: {error}", by=peer)

    def _find(self, basis: Basis, order: Collection[str], notes: Mapping[str, tuple[bytes, BlobNote]]) -> Result | None:
        """What this peer finds by itself; None where there is nothing to settle, or too few say what they saw."""
        cited = {peer: notes[peer] for peer in list(order)[:MAX_MANIFESTS]}
        manifests = self._papers.manifests(self.epoch, cited)
        needed = min(self._chain.quorum(self.epoch), MAX_MANIFESTS)
        if len(manifests) < needed:
            self._say(
                "unsettled", f"{len(manifests)} active peers say what they saw in epoch {self.epoch}, {needed} must"
            )
            return None
        statement = self._recomputation.settle(basis, manifests)
        if not statement.records:
            self._say("nothing", f"no record of epoch {self.epoch} was seen by enough peers: nothing to settle")
            return None
        return Result.of(statement, encode(statement))

    def _agree(self, result: Result) -> None:
        outcome = result.outcome
        name = outcome.data_hash.hex()
        self._journal.keep_paper(name, result.blob)
        if self._journal.keep_vote(self.epoch, name) != name:
            return
        note = VoteNote(
            root=outcome.root.hex(),
            data_hash=name,
            size=len(result.blob),
            total=outcome.total,
            signature=self._chain.sign(self._identity, self.epoch, outcome).signature.hex(),
        )
        self._papers.vote(self.epoch, note, result.blob)
        self.result = result
        self._say("signed", f"signs {_points(result)} for epoch {self.epoch}")

    def _hand_in(self, outcome: Outcome, rank: int, now: float) -> None:
        """Post what a quorum has signed: the first in the order at once, the next ones a turn later each."""
        votes = self.votes().get(outcome, [])
        if len(votes) < self._chain.quorum(self.epoch):
            return
        self._quorum_since = self._quorum_since or now
        if now >= self._quorum_since + rank * self._epochs.term_s:
            self._handed_in = True
            self._post(self.epoch, votes)

    def _blob_of(self, posted: Settlement) -> bytes:
        name = posted.outcome.data_hash.hex()
        voters = {peer: note.size for peer, note in self._papers.votes(self.epoch).items() if note.data_hash == name}
        for size in list(dict.fromkeys(voters.values()))[:MAX_SIZES]:
            try:
                return self._papers.statement(name, size, list(voters))
            except BlobUnavailable:
                continue
        return self._papers.settled(name)

    def _say(self, state: str, what: str, **more: object) -> None:
        self._emit("settlement", epoch=self.epoch, state=state, what=what, **more)


def _points(result: Result) -> str:
    return f"{result.outcome.total / 1e6:.3f} points in all"
