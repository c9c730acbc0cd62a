"""Publishes this peer's records of a round and collects those of the others. Everything here has a deadline."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass

from swarm.journal.journal import RecordRow
from swarm.network.announcements import Announcement, encode_record
from swarm.network.blobs import BlobRef
from swarm.network.node import Network
from swarm.recipe.schema import Recipe
from swarm.round.clock import lifetime_s
from swarm.round.records import AnyRecord, DoneNote, Kind, StageNote, check_header, check_lengths, decode, encode
from swarm.round.wire import NOT_DELIVERED, Message, RecordRefused, note_bytes, read_note

logger = logging.getLogger(__name__)

SMALL = 50
"""Peers up to which nobody slows down."""
POLL_S = 0.3
MAX_FETCH_S = 20.0
"""Seconds to fetch the records of a stage, in long rounds; 8 MB, the most that one has, take 7 over 10 Mbit/s."""
FETCH_SHARE = 0.1
"""The same as a share of the round: a provider that stalls must not make a peer late for those who wait for it."""


def in_proportion(peers: int) -> float:
    """How many times slower a peer of so large a swarm asks and tells everybody, so that its traffic stays flat."""
    return max(1.0, peers / SMALL)


@dataclass(frozen=True)
class Received:
    """A record that passed every check, with what its author signed."""

    record: AnyRecord
    row: RecordRow


class Exchange:
    """The records of a swarm, by round and stage."""

    def __init__(
        self,
        network: Network,
        swarm: str,
        recipe: Recipe,
        accused: Callable[[int], Set[str]] = lambda number: frozenset(),
    ) -> None:
        """`accused` tells who is known to have announced two different records in a round."""
        self._network = network
        self.accused = accused
        self._swarm = swarm
        self._recipe = recipe
        self._fetch_s = min(MAX_FETCH_S, FETCH_SHARE * recipe.timing.round_s)
        self._lifetime_s = lifetime_s(recipe.timing)
        self.refused: Counter[str] = Counter()
        """Records of others that were not accepted, by reason."""

    def commit(self, record: AnyRecord) -> Received:
        """Bind this peer to a record by its signature over the hash; nobody can have the record before `reveal`."""
        blob = encode(record)
        reference = BlobRef.of(blob)
        note = StageNote(sha256=reference.sha256, size=reference.size, groups=len(record.groups))
        announcement = self._network.announce(f"{record.round}/{record.stage}", note_bytes(note), self._lifetime_s)
        return Received(record, RecordRow(record.stage, record.peer_id, *_signed(announcement, note), blob))

    def reveal(self, committed: Received) -> None:
        """Give a record to whoever asks for it."""
        self._network.put(committed.row.body)

    def say_done(self, number: int, at: float) -> None:
        self._network.announce(f"{number}/done", note_bytes(DoneNote(at=at)), self._lifetime_s)

    def done(self, number: int) -> dict[str, float]:
        """When each peer that has finished a round finished it."""
        return {peer: note.at for peer, (_, note) in self._notes(f"{number}/done", DoneNote).items()}

    def wait(
        self,
        number: int,
        stage: Kind,
        expected: Callable[[], Collection[str]],
        until: float,
        meanwhile: Callable[[], bool] = lambda: False,
    ) -> dict[str, tuple[Announcement, StageNote]]:
        """The announcements of a stage, as soon as all expected peers have made theirs, or at the deadline.

        Args:
            expected: asked again and again, because peers come and go while we wait.
            until: the deadline, unix seconds.
            meanwhile: does a piece of other work and says whether it did; not called where a piece as long as the
                longest one so far would end after the deadline.
        """
        longest_s = 0.0
        while True:
            notes = self.announced(number, stage)
            if set(expected()) <= set(notes) or time.time() >= until:
                return notes
            begun = time.time()
            if begun + longest_s < until and meanwhile():
                longest_s = max(longest_s, time.time() - begun)
            else:
                time.sleep(max(0.0, min(POLL_S * in_proportion(len(notes)), until - time.time())))

    def collect(
        self,
        number: int,
        stage: Kind,
        notes: Mapping[str, tuple[Announcement, StageNote]],
        authors: Collection[str],
        until: float = 0.0,
    ) -> dict[str, Received]:
        """Fetch and check the records of some authors; who sends nothing or garbage is left out.

        Args:
            until: unix seconds at which the stage is over for everybody. An author that waits for peers for whom this
                one does not wait shows its record as late as that.
        """
        wanted: dict[BlobRef, list[str]] = {}
        for author in authors:
            if author in notes and author != self._network.peer_id:
                note = notes[author][1]
                wanted.setdefault(BlobRef(note.sha256, note.size), []).append(author)
        blobs = self._fetch_revealed(wanted, max(0.0, until - time.time()))
        received: dict[str, Received] = {}
        for reference, providers in wanted.items():
            for author in providers:
                if reference not in blobs:
                    self.refused[NOT_DELIVERED] += 1
                    continue
                try:
                    record = decode(stage, blobs[reference])
                    check_header(record, self._swarm, number, author, notes[author][1])
                    check_lengths(record, self._recipe)
                except RecordRefused as error:
                    self.refused[error.reason] += 1
                    logger.info("refused the %s record of %s: %s", stage, author, error)
                    continue
                row = RecordRow(stage, author, *_signed(*notes[author]), blobs[reference])
                received[author] = Received(record, row)
        return received

    def _fetch_revealed(self, wanted: Mapping[BlobRef, list[str]], hidden_s: float) -> dict[BlobRef, bytes]:
        """The blobs of records, tried again while there is time; they may be hidden for so long."""
        deadline = time.monotonic() + hidden_s + self._fetch_s
        blobs: dict[BlobRef, bytes] = {}
        while (missing := {ref: who for ref, who in wanted.items() if ref not in blobs}) and (
            left := deadline - time.monotonic()
        ) > 0:
            blobs.update(self._network.fetch_many(missing, min(left, self._fetch_s)))
            if len(blobs) < len(wanted):
                time.sleep(max(0.0, min(POLL_S, deadline - time.monotonic())))
        return blobs

    def announced(self, number: int, kind: Kind) -> dict[str, tuple[Announcement, StageNote]]:
        """The announcements of a kind of record so far."""
        return self._notes(f"{number}/{kind}", StageNote)

    def seen(self, stage: Kind, notes: Mapping[str, tuple[Announcement, StageNote]]) -> list[RecordRow]:
        """The announcements of a stage as the journal keeps them, without the records."""
        others = (author for author in notes if author != self._network.peer_id)
        return [RecordRow(stage, author, *_signed(*notes[author]), b"") for author in others]

    def _notes(self, slot: str, kind: type[Message]) -> dict[str, tuple[Announcement, Message]]:
        try:
            announcements = self._network.read(slot)
        except (TimeoutError, OSError, RuntimeError) as error:
            logger.warning("the announcements of %s were not read: %r", slot, error)
            return {}
        notes: dict[str, tuple[Announcement, Message]] = {}
        for peer_id, announcement in announcements.items():
            try:
                notes[peer_id] = (announcement, read_note(kind, announcement.value))
            except RecordRefused as error:
                self.refused[error.reason] += 1
        return notes


def _signed(announcement: Announcement, note: StageNote) -> tuple[str, bytes]:
    return note.sha256, encode_record(announcement)
