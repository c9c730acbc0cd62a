"""What an epoch comes to, from real records of real peers."""

import base64
import json
import zlib
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import PROTOCOL
from swarm.identity.key import Identity
from swarm.network.announcements import decode_record, encode_record, make
from swarm.network.blobs import BlobRef
from swarm.round.records import StageNote, decode, encode
from swarm.round.wire import RecordRefused, note_bytes, read_note
from swarm.settlement import documents
from swarm.settlement.compute import (
    Basis,
    RecordMissing,
    SignedManifest,
    StatementRefused,
    check,
    counted_records,
    settle,
)
from swarm.settlement.documents import Manifest, Previous, Seen, Statement
from tests.round.conftest import SEED, SWARM, make_bench

SEED_ROUNDS = range(0, 100)


class Played:
    """Two rounds of four peers, and what each of them has seen."""

    def __init__(self):
        self.bench = make_bench(4)
        self.points = defaultdict(float)
        self.rows = {}
        self.bodies = {}
        self.audits = []
        for number in range(2):
            for me, outcome in self.bench.play().items():
                self.points[me] += outcome.report.points
                self.rows.setdefault(me, []).extend((number, row) for row in outcome.records)
                self.bodies |= {(number, row.stage, row.peer_id): row.body for row in outcome.records if row.body}
            self.audits += [(number, audit) for audit in outcome.audits]  # every peer finds the same

    def seen(self, me):
        return [
            Seen(
                round=number,
                stage=row.stage,
                author=row.peer_id,
                announcement=base64.b64encode(row.announcement).decode(),
                held=bool(row.body),
            )
            for number, row in self.rows[me]
        ]

    def manifests(self, change=lambda me, seen: seen, peers=None):
        return {
            me: SignedManifest(
                b"signed by " + me.encode(),
                Manifest(
                    protocol=PROTOCOL, swarm=SWARM, epoch=0, since=0, peer_id=me, seen=tuple(change(me, self.seen(me)))
                ),
            )
            for me in peers or self.rows
        }

    def settle(self, manifests, basis=None, bodies=None):
        basis = basis or self.basis()
        bodies = self.bodies if bodies is None else bodies
        counted = counted_records(basis, manifests)
        return settle(basis, manifests, counted, lambda key, note: bodies.get(key))

    def basis(self, epoch=0, rounds=SEED_ROUNDS, previous=None, before=None):
        return Basis(SWARM, self.bench.recipe, epoch, rounds, previous, before, lambda number: SEED)


@pytest.fixture(scope="module")
def played():
    return Played()


@pytest.fixture(scope="module")
def statement(played):
    return played.settle(played.manifests())


def test_points_are_what_each_peer_found_by_itself(played, statement):
    assert len(statement.records) == 4 * 3 * 2
    assert {peer: value / 1e6 for peer, value in statement.points.items()} == pytest.approx(dict(played.points))
    assert sum(statement.points.values()) > 0


def test_order_does_not_matter_and_a_blob_keeps_all(played, statement):
    backwards = dict(reversed(played.manifests(lambda me, seen: reversed(seen)).items()))
    assert played.settle(backwards) == statement
    assert documents.decode(Statement, documents.encode(statement)) == statement


def test_an_epoch_after_another_adds_to_it(played):
    first = played.settle(played.manifests(), played.basis(rounds=range(0, 1)))
    previous = Previous(epoch=0, data_hash="ab" * 32)
    second = played.settle(played.manifests(), played.basis(1, range(1, 2), previous, first))
    whole = played.settle(played.manifests())
    assert {record.round for record in second.records} == {1}
    assert second.points == whole.points and second.audits == whole.audits


def test_one_peer_cannot_leave_out_or_add_anything(played, statement):
    """A quarter of the manifests say nothing, or name a record that nobody else saw."""
    liar, victim = sorted(played.rows)[:2]

    def silent(me, seen):
        return [] if me == liar else seen

    assert played.settle(played.manifests(silent)).points == statement.points

    late = decode("answer", played.bodies[1, "answer", victim]).model_copy(update={"round": 7})
    raw = announce(victim, late, "7/answer")

    def inventive(me, seen):
        invented = Seen(round=7, stage="answer", author=victim, announcement=raw, held=True)
        return [*seen, invented] if me == liar else seen

    bodies = {**played.bodies, (7, "answer", victim): encode(late)}
    assert played.settle(played.manifests(inventive), bodies=bodies).points == statement.points


def test_false_signatures_and_foreign_slots_count_for_nothing(played, statement):
    author = sorted(played.rows)[0]

    def tamper(me, seen):
        return [
            entry.model_copy(update={"announcement": base64.b64encode(b"\x01" + bytes(200)).decode()})
            if entry.author == author and entry.stage == "revise"
            else entry.model_copy(update={"round": 50})
            if entry.author == author and entry.stage == "critique"
            else entry
            for entry in seen
        ]

    found = played.settle(played.manifests(tamper))
    assert {record.stage for record in found.records if record.author == author} == {"answer"}


@pytest.mark.parametrize("groups", [0, 1], ids=["another record", "the same record as larger"])
@pytest.mark.parametrize("deceived", [2, 1, 0], ids=["half of the peers", "one peer", "nobody, but one has proof"])
def test_who_said_two_things_earns_nothing_in_that_round_and_nobody_else_loses(played, statement, deceived, groups):
    """However few saw the second record, and though its author stays in the roster from which judges are drawn."""
    author, *others = sorted(played.rows)
    other = decode("answer", played.bodies[0, "answer", author])
    raw = announce(author, other.model_copy(update={} if groups else {"fingerprint": "00" * 32}), "0/answer", groups)

    def split(me, seen):
        changed = [
            entry.model_copy(update={"announcement": raw})
            if (entry.round, entry.stage, entry.author) == (0, "answer", author) and me in others[:deceived]
            else entry
            for entry in seen
        ]
        second = Seen(round=0, stage="answer", author=author, announcement=raw, held=False)
        return [*changed, second] if me == others[0] and not deceived else changed

    found = played.settle(played.manifests(split))
    worth = {(record.round, record.stage): record.points for record in found.records if record.author == author}
    assert [worth[0, stage] for stage in ("answer", "critique", "revise")] == [None, None, None]
    assert all(worth[1, stage] is not None for stage in ("answer", "critique", "revise"))
    left = defaultdict(list)
    for number, audit in played.audits:
        if number or author not in (audit.judge, audit.author):
            left[audit.judge].append((audit.raw, audit.truth))
    assert {judge: sorted(audits) for judge, audits in found.audits.items()} == {
        judge: sorted(audits) for judge, audits in left.items()
    }, "the judges of the others' answers are the same as before"
    assert found.audits != statement.audits


def test_a_record_that_nobody_gives_is_worth_nothing_and_is_named(played):
    author = sorted(played.rows)[0]
    bodies = {key: body for key, body in played.bodies.items() if key != (0, "answer", author)}
    found = played.settle(played.manifests(), bodies=bodies)
    missing = [record for record in found.records if record.points is None]
    assert [(record.round, record.stage, record.author) for record in missing] == [(0, "answer", author)]
    whole = played.settle(played.manifests())
    with pytest.raises(RecordMissing, match=r"the answer record of .* in round 0 counts, and is not here"):
        check(whole, found)
    with pytest.raises(StatementRefused, match="given as if it cannot be had"):  # nobody can hide what others have
        check(found, whole)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: {"points": {**s.points, first(s.points): s.points[first(s.points)] + 1}}, "the points of .* do not"),
        (lambda s: {"audits": {**s.audits, first(s.audits): ()}}, "the audits of .* do not follow"),
        (
            lambda s: {"records": (s.records[0].model_copy(update={"points": 5_000_000}), *s.records[1:])},
            "the answer record of .* in round 0 earns .* points, and is given as if it earns 5 points",
        ),
        (lambda s: {"records": s.records[1:]}, "given as if it does not count"),
        (lambda s: {"epoch": 3}, "the epoch should be 0"),
        (lambda s: {"previous": Previous(epoch=0, data_hash="00" * 32)}, "settlement before it should be None"),
    ],
)
def test_a_false_statement_is_refused_with_what_is_false(statement, change, sentence):
    check(statement, statement)
    with pytest.raises(StatementRefused, match=sentence):
        check(statement.model_copy(update=change(statement)), statement)


def test_documents_are_strict():
    for blob in (b"", b"x" * 100, encode_garbage({"protocol": 1})):
        with pytest.raises(RecordRefused):
            documents.decode(Statement, blob)
        with pytest.raises(RecordRefused):
            documents.decode(Manifest, blob)


def encode_garbage(value):
    return zlib.compress(json.dumps(value).encode())


def first(mapping):
    return sorted(mapping)[0]


def announce(peer_id, record, slot, more_groups=0):
    """An announcement signed by one of the bench's peers, in base64."""
    identity = next(i for i in (Identity(bytes([n]) * 32) for n in range(1, 5)) if i.peer_id == peer_id)
    ref = BlobRef.of(encode(record))
    note = StageNote(sha256=ref.sha256, size=ref.size, groups=len(record.groups) + more_groups)
    said = make(identity, SWARM, slot, note_bytes(note), expiry_ms=2_000_000_000_000)
    raw = encode_record(said)
    assert read_note(StageNote, decode_record(SWARM, peer_id, raw).value) == note
    return base64.b64encode(raw).decode()


@given(st.binary(max_size=300))
def test_no_bytes_crash_a_decoder(blob):
    for kind in (Statement, Manifest):
        for data in (blob, zlib.compress(blob)):
            with pytest.raises(RecordRefused):
                documents.decode(kind, data)
