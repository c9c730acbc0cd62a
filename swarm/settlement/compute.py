"""What an epoch came to: a pure function of the recipe, the seeds, what peers say they saw, and the signed records.

A record counts if more than a third of the manifests name it: fewer than a third of the peers can be false, so at
least one honest peer saw it in time. Two different records of one author for one stage both count for nothing.
"""

import base64
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from swarm import PROTOCOL
from swarm.errors import SwarmError
from swarm.judging.calibration import WINDOW, Calibration, calibrate
from swarm.judging.points import round_points
from swarm.network.announcements import Refused, decode_record
from swarm.network.equivocation import FINAL_SLOT
from swarm.recipe.schema import Recipe
from swarm.round.assignment import Assigner, Owners
from swarm.round.evidence import Book, Evidence
from swarm.round.openings import spent_by
from swarm.round.records import AnyRecord, Kind, StageNote, check_header, check_lengths, decode
from swarm.round.wire import RecordRefused, read_note
from swarm.settlement.documents import Counted, Manifest, Previous, Seen, Signed, Statement

Key = tuple[int, Kind, str]
"""Round, kind and author of a record."""


class StatementRefused(SwarmError):
    """A settlement that the records do not give; the sentence says where they differ."""


class RecordMissing(StatementRefused):
    """A settlement counts a record that cannot be had here, so nobody here can tell whether it holds."""


@dataclass(frozen=True)
class SignedManifest:
    """A manifest with the announcement by which its author signed it."""

    announcement: bytes
    manifest: Manifest


@dataclass(frozen=True)
class Announced:
    """A record that counts, before anybody has looked into it."""

    announcement: str
    note: StageNote
    committed: float
    """When the announcement ends, unix seconds; all live equally long."""
    held: bool
    """Whether somebody says that it can be had from it."""

    def raw(self) -> bytes:
        """The bytes of the announcement."""
        return base64.b64decode(self.announcement)


@dataclass(frozen=True)
class Basis:
    """What does not depend on who computes."""

    swarm: str
    recipe: Recipe
    epoch: int
    rounds: range
    previous: Previous | None
    before: Statement | None
    """The statement of `previous`."""
    seed_of: Callable[[int], bytes]
    owners: Owners = lambda number, peers: {}
    """Who each linked peer belonged to at the start of a round."""
    epoch_of: Callable[[int], int] = lambda number: 0
    """The epoch in which a round starts."""


def counted_records(basis: Basis, manifests: Mapping[str, SignedManifest]) -> dict[Key, Announced]:
    """The records that enough manifests name, in the order in which they are counted.

    Whoever said two different things in one stage, in the manifests of anybody, keeps its place in the round, so that
    the others' judges stay those whom everybody has drawn; but none of its records of that round is looked at.
    """
    opened: dict[tuple[Key, str], tuple[StageNote, float] | None] = {}
    named: dict[Key, dict[StageNote, set[str]]] = defaultdict(lambda: defaultdict(set))
    words: dict[tuple[Key, StageNote], tuple[str, StageNote, float]] = {}
    held: set[tuple[Key, StageNote]] = set()
    for peer, signed in manifests.items():
        for seen in signed.manifest.seen:
            key = (seen.round, seen.stage, seen.author)
            if seen.round not in basis.rounds:
                continue
            if (key, seen.announcement) not in opened:
                opened[key, seen.announcement] = _open(basis.swarm, seen)
            said = opened[key, seen.announcement]
            if said is None:
                continue
            note, expires = said
            record = (key, note)
            named[key][note].add(peer)
            # the same note may have been announced twice, and everybody has to take the same announcement
            word = (seen.announcement, note, expires)
            words[record] = min(words.get(record, word), word, key=_first)
            if seen.held:
                held.add(record)
    two_faced = {
        (number, author)
        for (number, stage, author), said in named.items()
        if len(said) > 1 and FINAL_SLOT.fullmatch(f"{number}/{stage}")
    }
    counted: dict[Key, Announced] = {}
    for key in sorted(named):
        note = min(named[key], key=lambda note: (-len(named[key][note]), words[key, note][0]))
        if 3 * len(named[key][note]) > len(manifests):
            usable = (key, note) in held and (key[0], key[2]) not in two_faced
            counted[key] = Announced(*words[key, note], held=usable)
    return counted


def settle(
    basis: Basis,
    manifests: Mapping[str, SignedManifest],
    counted: Mapping[Key, Announced],
    body_of: Callable[[Key, StageNote], bytes | None],
) -> Statement:
    """The settlement of an epoch.

    Args:
        counted: as `counted_records` gives them.
        body_of: the blob of a record, or None where it cannot be had.
    """
    before = basis.before
    audits = {judge: list(found) for judge, found in before.audits.items()} if before else {}
    points = dict(before.points) if before else {}
    spent = set(before.spent) if before else set()
    assigner = Assigner(basis.recipe, basis.owners, basis.epoch_of)
    records: list[Counted] = []
    for number in sorted({key[0] for key in counted}):
        in_round = {key: said for key, said in counted.items() if key[0] == number}
        earned = _round(basis, number, in_round, body_of, audits, spent, assigner)
        for key, said in in_round.items():
            records.append(
                Counted(round=number, stage=key[1], author=key[2], announcement=said.announcement, points=earned[key])
            )
        for author in sorted({key[2] for key in in_round}):
            mine = (value for key, value in earned.items() if key[2] == author and value is not None)
            points[author] = points.get(author, 0) + round_points(mine)
    return Statement(
        protocol=PROTOCOL,
        swarm=basis.swarm,
        epoch=basis.epoch,
        previous=basis.previous,
        manifests=tuple(
            Signed(peer_id=peer, announcement=base64.b64encode(manifests[peer].announcement).decode())
            for peer in sorted(manifests)
        ),
        records=tuple(records),
        audits={judge: tuple(audits[judge][-WINDOW:]) for judge in sorted(audits)},
        spent=tuple(sorted(spent)),
        points={peer: points[peer] for peer in sorted(points)},
    )


def check(claimed: Statement, found: Statement) -> None:
    """Whether a proposed settlement is what was found here from the same manifests.

    Raises:
        StatementRefused: it is not; the sentence names the first record, judge or peer that differs.
        RecordMissing: it counts a record that is not here.
    """
    for what, one, other in (
        ("epoch", claimed.epoch, found.epoch),
        ("swarm", claimed.swarm, found.swarm),
        ("settlement before it", claimed.previous, found.previous),
        ("manifests", claimed.manifests, found.manifests),
    ):
        if one != other:
            raise StatementRefused(f"the {what} should be {other}, and is given as {one}")
    theirs = {(record.round, record.stage, record.author): record for record in claimed.records}
    ours = {(record.round, record.stage, record.author): record for record in found.records}
    for key in sorted({*theirs, *ours}):
        if theirs.get(key) != ours.get(key):
            if key in ours and ours[key].points is None and key in theirs:
                raise RecordMissing(f"the {key[1]} record of {key[2]} in round {key[0]} counts, and is not here")
            where = f"the {key[1]} record of {key[2]} in round {key[0]}"
            raise StatementRefused(f"{where} {_worth(ours.get(key))}, and is given as if it {_worth(theirs.get(key))}")
    if claimed.spent != found.spent:
        raise StatementRefused("the list of opened seals does not follow from the records")
    for what, claims, finds in (("audits", claimed.audits, found.audits), ("points", claimed.points, found.points)):
        for peer in sorted({*claims, *finds}):
            if claims.get(peer) != finds.get(peer):
                raise StatementRefused(f"the {what} of {peer} do not follow from the records")


def valid_record(basis: Basis, key: Key, note: StageNote, blob: bytes) -> AnyRecord:
    """The record in a blob.

    Raises:
        RecordRefused: it is not what was announced, or breaks the recipe's limits.
    """
    record = decode(key[1], blob)
    check_header(record, basis.swarm, key[0], key[2], note)
    check_lengths(record, basis.recipe)
    return record


def _round(
    basis: Basis,
    number: int,
    counted: Mapping[Key, Announced],
    body_of: Callable[[Key, StageNote], bytes | None],
    audits: dict[str, list[tuple[float, bool]]],
    spent: set[str],
    assigner: Assigner,
) -> dict[Key, int | None]:
    """What each record of a round earns; `audits` and `spent` grow by those of the round."""
    book = Book()
    valid: dict[Key, AnyRecord] = {}
    for key, said in counted.items():
        blob = body_of(key, said.note) if said.held else None
        if blob is not None:
            try:
                valid[key] = valid_record(basis, key, said.note, blob)
            except RecordRefused:
                continue
            book.add(valid[key])
            if key[1] == "answer":
                book.committed[key[2]] = said.committed
    seed = basis.seed_of(number)
    roster = {author: said.note.groups for (_, stage, author), said in counted.items() if stage == "answer"}
    drawn = assigner.draw(number, seed, roster)
    book.keep_assigned(drawn.judges)
    calibrations: dict[str, Calibration] = {}

    def calibration(judge: str) -> Calibration:
        if judge not in calibrations:
            calibrations[judge] = calibrate(audits.get(judge, []))
        return calibrations[judge]

    evidence = Evidence(basis.recipe, seed, book, calibration, spent)
    evidence.owners = drawn.owners
    found = evidence.audited()
    records = {(number, record.stage, record.peer_id): record for record in book.records()}
    openings = {(number, record.stage, record.peer_id) for record in book.openings.values()}
    earned = {
        key: evidence.earned(records[key]) if key in records else 0 if key in openings else None for key in counted
    }
    spent |= spent_by(basis.recipe, book.openings.values())
    for audit in sorted(found, key=lambda audit: (audit.judge, audit.author, audit.task, audit.sample)):
        audits.setdefault(audit.judge, []).append((audit.raw, audit.truth))
    return earned


def _open(swarm: str, seen: Seen) -> tuple[StageNote, float] | None:
    """What the author announced, and until when; None where the signature, the slot or the note is not right."""
    try:
        said = decode_record(swarm, seen.author, base64.b64decode(seen.announcement))
        note = read_note(StageNote, said.value)
        return (note, said.expires) if said.slot == f"{seen.round}/{seen.stage}" else None
    except (Refused, RecordRefused, ValueError):
        return None


def _first(word: tuple[str, StageNote, float]) -> str:
    return word[0]


def _worth(record: Counted | None) -> str:
    if record is None:
        return "does not count"
    if record.points is None:
        return "cannot be had"
    return f"earns {record.points / 1e6:g} points"
