"""The papers of an epoch in the network: manifests, proposed statements, votes. Everything here has a deadline."""

import logging
from collections.abc import Collection, Iterable, Mapping

from swarm.journal.journal import Journal
from swarm.network.announcements import Announcement, Refused, decode_record, encode_record
from swarm.network.blobs import BlobRef, BlobUnavailable
from swarm.network.node import Network
from swarm.round.wire import Message, RecordRefused, note_bytes, read_note
from swarm.settlement.compute import SignedManifest, StatementRefused
from swarm.settlement.documents import BlobNote, Manifest, SettledNote, Statement, VoteNote, decode, encode

logger = logging.getLogger(__name__)

READ_S = 10.0
LIFETIME_S = 3600.0
MAX_SIZES = 3
"""Peers may claim any size for a blob of which only the hash is known; so many are tried."""
SETTLED_SLOT = "settled"
"""Where newcomers find the newest settlement's statement."""


class Papers:
    """What peers of one swarm say about its epochs."""

    def __init__(self, network: Network | None, journal: Journal, swarm: str, fetch_s: float) -> None:
        """
        Args:
            network: None to read only what the journal has kept.
            fetch_s: seconds to fetch blobs at most, at a time.
        """
        self._network = network
        self._journal = journal
        self._swarm = swarm
        self._fetch_s = fetch_s

    def publish_manifest(self, manifest: Manifest) -> None:
        self._put(_slot(manifest.epoch, "manifest"), encode(manifest))

    def manifest_notes(self, epoch: int) -> dict[str, tuple[Announcement, BlobNote]]:
        """Who has said what it saw in an epoch."""
        return self._notes(_slot(epoch, "manifest"), BlobNote)

    def manifests(self, epoch: int, notes: Mapping[str, tuple[bytes, BlobNote]]) -> dict[str, SignedManifest]:
        """The manifests that arrive and are what their authors announced, by author."""
        wanted = {peer: BlobRef(note.sha256, note.size) for peer, (_, note) in notes.items()}
        blobs = self._papers({ref: [peer, *notes] for peer, ref in wanted.items()})
        found: dict[str, SignedManifest] = {}
        for peer, ref in wanted.items():
            if ref not in blobs:
                continue
            try:
                manifest = decode(Manifest, blobs[ref])
            except RecordRefused as error:
                logger.info("refused the manifest of %s: %s", peer, error)
                continue
            if (manifest.swarm, manifest.epoch, manifest.peer_id) == (self._swarm, epoch, peer):
                found[peer] = SignedManifest(notes[peer][0], manifest)
                self._journal.keep_paper(ref.sha256, blobs[ref])  # for audits later
        return found

    def cited(self, statement: Statement) -> dict[str, SignedManifest]:
        """The manifests that a statement stands on.

        Raises:
            StatementRefused: one of them is not signed by its author, or cannot be had.
        """
        notes: dict[str, tuple[bytes, BlobNote]] = {}
        for signed in statement.manifests:
            raw = signed.raw()
            try:
                said = decode_record(self._swarm, signed.peer_id, raw)
                note = read_note(BlobNote, said.value)
            except (Refused, RecordRefused) as error:
                raise StatementRefused(
                    f"the manifest of {signed.peer_id} in it is not signed by it ({error})"
                ) from error
            if said.slot != _slot(statement.epoch, "manifest"):
                raise StatementRefused(f"the manifest of {signed.peer_id} in it is of another epoch")
            notes[signed.peer_id] = (raw, note)
        found = self.manifests(statement.epoch, notes)
        if len(found) < len(notes):
            missing = sorted(set(notes) - set(found))[0]
            raise StatementRefused(f"the manifest of {missing} in it cannot be had, or is not what was announced")
        return found

    def propose(self, epoch: int, blob: bytes) -> None:
        self._put(_slot(epoch, "statement"), blob)

    def proposals(self, epoch: int) -> dict[str, BlobNote]:
        return {peer: note for peer, (_, note) in self._notes(_slot(epoch, "statement"), BlobNote).items()}

    def statement(self, data_hash: str, size: int, providers: Collection[str]) -> bytes:
        """A statement's blob.

        Raises:
            BlobUnavailable: nobody gives it in time.
        """
        ref = BlobRef(data_hash, size)
        found = self._papers({ref: providers})
        if ref not in found:
            raise BlobUnavailable(f"no peer gives the statement {data_hash[:12]}")
        return found[ref]

    def vote(self, epoch: int, note: VoteNote, blob: bytes) -> None:
        """Vote, and give the statement that the vote is for to whoever asks."""
        self._live.put(blob)
        self._live.announce(_slot(epoch, "vote"), note_bytes(note), LIFETIME_S)

    def votes(self, epoch: int) -> dict[str, VoteNote]:
        return {peer: note for peer, (_, note) in self._notes(_slot(epoch, "vote"), VoteNote).items()}

    def offer_settled(self, note: SettledNote, blob: bytes) -> None:
        """Give the newest settlement's statement to whoever asks."""
        self._live.put(blob)
        self._live.announce(SETTLED_SLOT, note_bytes(note), LIFETIME_S)

    def settled(self, data_hash: str) -> bytes:
        """The statement of a settlement that is on the chain, from the journal or from whoever offers it.

        Raises:
            BlobUnavailable: nobody gives it in time.
        """
        known = self._journal.paper(data_hash)
        if known is not None:
            return known
        sizes: dict[int, list[str]] = {}
        for peer, (_, note) in self._notes(SETTLED_SLOT, SettledNote).items():
            if note.data_hash == data_hash:
                sizes.setdefault(note.size, []).append(peer)
        for size, peers in sorted(sizes.items(), key=lambda entry: -len(entry[1]))[:MAX_SIZES]:
            try:
                blob = self.statement(data_hash, size, peers)
            except BlobUnavailable:
                continue
            self._journal.keep_paper(data_hash, blob)
            return blob
        raise BlobUnavailable(f"no peer gives the statement {data_hash[:12]}")

    def fetch(self, wanted: Mapping[BlobRef, Iterable[str]]) -> dict[BlobRef, bytes]:
        """The blobs that arrive in time."""
        if not wanted or self._network is None:
            return {}
        return self._network.fetch_many({ref: list(dict.fromkeys(who)) for ref, who in wanted.items()}, self._fetch_s)

    def _papers(self, wanted: Mapping[BlobRef, Iterable[str]]) -> dict[BlobRef, bytes]:
        """Blobs of manifests and statements, from the journal or from others."""
        kept = {ref: self._journal.paper(ref.sha256) for ref in wanted}
        fetched = self.fetch({ref: who for ref, who in wanted.items() if kept[ref] is None})
        return {**{ref: blob for ref, blob in kept.items() if blob is not None}, **fetched}

    def _put(self, slot: str, blob: bytes) -> None:
        reference = self._live.put(blob)
        self._journal.keep_paper(reference.sha256, blob)
        note = BlobNote(sha256=reference.sha256, size=reference.size)
        self._live.announce(slot, note_bytes(note), LIFETIME_S)

    @property
    def _live(self) -> Network:
        assert self._network is not None, "without a network papers are only read"
        return self._network

    def _notes(self, slot: str, kind: type[Message]) -> dict[str, tuple[Announcement, Message]]:
        notes: dict[str, tuple[Announcement, Message]] = {}
        if self._network is None:
            return notes
        for peer, said in self._network.read(slot, READ_S).items():
            try:
                notes[peer] = (said, read_note(kind, said.value))
            except RecordRefused as error:
                logger.info("refused what %s says in %s: %s", peer, slot, error)
        return notes


def raw_notes(notes: Mapping[str, tuple[Announcement, BlobNote]]) -> dict[str, tuple[bytes, BlobNote]]:
    """Notes with their announcements as bytes, as statements carry them."""
    return {peer: (encode_record(said), note) for peer, (said, note) in notes.items()}


def _slot(epoch: int, what: str) -> str:
    return f"epoch/{epoch}/{what}"
