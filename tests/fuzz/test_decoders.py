"""Every decoder of bytes from the wire: any bytes give a value or the declared error, within the declared memory."""

import json
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import msgpack
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm import PROTOCOL
from swarm.errors import SwarmError
from swarm.identity.key import Identity
from swarm.network import dialback
from swarm.network.announcements import Refused, check_record, decode_record, encode_record, make, record_key, shard_of
from swarm.network.blobs import BlobRef, decode_request, encode_request
from swarm.network.equivocation import MAX_PROOFS, Proof, decode_proofs, encode_proofs
from swarm.network.invite import Invite
from swarm.network.validation import decode_dictionary, decode_subkey
from swarm.round import records
from swarm.round.accusation import ProofNote
from swarm.round.merging import MergeNote
from swarm.round.records import DoneNote, LiveNote, StageNote
from swarm.round.weights import WeightsNote
from swarm.round.wire import RecordRefused, note_bytes, read_note
from swarm.settlement import documents
from swarm.settlement.documents import BlobNote, Manifest, SettledNote, Statement, VoteNote
from swarm.training import merging, wire
from swarm.training.wire import WeightsRefused

MIB = 2**20
ME = Identity(b"\x05" * 32)
SAID = make(ME, "s", "slot", b"value", 1_800_000_000_000)
SHA = "ab" * 32
SALT = "cd" * 16
ENVELOPE = {"protocol": PROTOCOL, "swarm": "s", "round": 3, "peer_id": ME.peer_id, "salt": SALT}
HEADER = {"model": "m", "fingerprint": SHA, "tokenizer": SHA}
ROLLOUTS = [{"tokens": [1, 2], "logprobs": [-0.5, -1.0], "finished": True, "text": "4"}]
GROUPS = {
    "answer": {"task": 0, "rollouts": ROLLOUTS},
    "critique": {"author": ME.peer_id, "task": 0, "sample": 0, "verdicts": [0.5], "rollouts": ROLLOUTS},
    "revise": {"task": 0, "sample": 0, "judges": [ME.peer_id], "rollouts": ROLLOUTS},
    "open": {"seal": SHA, "salt": SALT, "answer": "4"},
}
PROOF = Proof.of(*(make(ME, "s", "3/answer", word, 1_800_000_000_000) for word in (b"this", b"that")))
DELTA = {"layer.weight": torch.full((4, 3), 0.5), "layer.bias": torch.zeros(3)}
LIVE = {"protocol": PROTOCOL, "name": "n", "model": "m", "device": "d", "round": 1, "tokens_per_s": 1.0, "address": ""}
PLACE = {"protocol": PROTOCOL, "swarm": "s", "epoch": 1}


@dataclass(frozen=True)
class Decoder:
    """A function of bytes, what it may raise, the most memory it may take, and bytes that it accepts."""

    decode: Callable[[bytes], Any]
    refusal: type[Exception]
    max_bytes: int
    good: bytes


def note(kind: Any, **fields: Any) -> Decoder:
    return Decoder(partial(read_note, kind), RecordRefused, MIB, note_bytes(kind(**fields)))


def stage(name: str) -> Decoder:
    fields = {**ENVELOPE, **({} if name == "open" else HEADER), "stage": name, "groups": [GROUPS[name]]}
    good = zlib.compress(json.dumps(fields).encode())
    return Decoder(partial(records.decode, name), RecordRefused, 3 * records.MAX_JSON_BYTES, good)


def document(kind: Any, **fields: Any) -> Decoder:
    good = zlib.compress(json.dumps(fields).encode())
    return Decoder(partial(documents.decode, kind), RecordRefused, 3 * documents._MAX_JSON_BYTES, good)


KEY = record_key("s", "slot", shard_of(ME.peer_id))
DECODERS = {
    "announcement": Decoder(partial(decode_record, "s", ME.peer_id), Refused, MIB, encode_record(SAID)),
    "stored record": Decoder(
        lambda raw: check_record("s", KEY, ME.peer_id, raw, SAID.expires, SAID.expires - 60),
        Refused,
        MIB,
        encode_record(SAID),
    ),
    "subkey": Decoder(decode_subkey, Refused, MIB, msgpack.packb(ME.peer_id)),
    "proofs": Decoder(partial(decode_proofs, "s"), Refused, MIB, encode_proofs([PROOF] * MAX_PROOFS)),
    "delta": Decoder(lambda raw: merging.decode(raw, DELTA), WeightsRefused, MIB, merging.encode(DELTA)),
    "weights": Decoder(lambda raw: wire.decode(raw, DELTA), WeightsRefused, MIB, wire.encode(DELTA)),
    "weights note": note(WeightsNote, fingerprint=SHA, sha256=SHA, size=5),
    "blob request": Decoder(decode_request, Refused, MIB, encode_request(BlobRef(SHA, 5))),
    "dial-back request": Decoder(dialback.decode_request, Refused, MIB, dialback.encode_request(4001)),
    "dial-back answer": Decoder(
        dialback.decode_answer,
        Refused,
        MIB,
        dialback.encode_answer(dialback.Answer(dialback.Outcome.REACHED, 1.8e9)),
    ),
    "invite": Decoder(
        lambda raw: Invite.decode(raw.decode("latin-1")),
        SwarmError,
        MIB,
        Invite("http://a.b:1/", 1, "0x" + "1" * 40).encode().encode(),
    ),
    "answers": stage("answer"),
    "critiques": stage("critique"),
    "revisions": stage("revise"),
    "openings": stage("open"),
    "merge note": note(MergeNote, round=3, origin=SHA, updates=2, sha256=SHA, size=5),
    "proof note": note(ProofNote, sha256=SHA, size=5),
    "stage note": note(StageNote, sha256=SHA, size=5, groups=1),
    "done note": note(DoneNote, at=1.0),
    "live note": note(LiveNote, **LIVE, recipe_bytes=0),
    "blob note": note(BlobNote, sha256=SHA, size=5),
    "vote note": note(VoteNote, root=SHA, data_hash=SHA, size=1, total=1, signature="ab" * 65),
    "settled note": note(SettledNote, epoch=1, data_hash=SHA, size=1),
    "manifest": document(Manifest, **PLACE, since=0, peer_id=ME.peer_id, seen=[]),
    "statement": document(
        Statement,
        **PLACE,
        previous=None,
        manifests=[],
        records=[],
        audits={ME.peer_id: [[0.5, True]]},
        spent=[SHA],
        points={},
    ),
}
NAMES = sorted(DECODERS)
COMPRESSED = [name for name, decoder in DECODERS.items() if decoder.max_bytes > MIB]


def outcome(decoder: Decoder, raw: bytes) -> str:
    """What came of it."""
    try:
        decoder.decode(raw)
        return "accepted"
    except decoder.refusal:
        return "refused"


def refused_within_the_cap(decoder: Decoder, raw: bytes) -> bool:
    tracemalloc.start()
    try:
        return outcome(decoder, raw) == "refused" and tracemalloc.get_traced_memory()[1] < decoder.max_bytes + 4 * len(
            raw
        )
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
def test_the_good_example_is_good(name: str) -> None:
    assert outcome(DECODERS[name], DECODERS[name].good) == "accepted"


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(raw=st.binary(max_size=400))
def test_any_bytes(name: str, raw: bytes) -> None:
    outcome(DECODERS[name], raw)


@st.composite
def changed(draw: st.DrawFn, good: bytes) -> bytes:
    """Good bytes with a few of them replaced, left out, said twice or added, inside the compression if there is one."""
    raw = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(raw)))
        last = min(len(raw), first + draw(st.integers(0, 12)))
        raw[first:last] = draw(
            st.sampled_from([b"", bytes(raw[first:last]) * 2, b"null", b"1e999", b"-1", b'"'])
        ) or draw(st.binary(max_size=6))
    return bytes(raw)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_good_bytes_a_little_changed(name: str, data: st.DataObject) -> None:
    good = DECODERS[name].good
    if name in COMPRESSED:
        outcome(DECODERS[name], zlib.compress(data.draw(changed(zlib.decompress(good))), 1))
    outcome(DECODERS[name], data.draw(changed(good)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("name", [name for name in NAMES if name in COMPRESSED or name.endswith("note")])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_field_of_any_json_in_the_place_of_another(name: str, data: st.DataObject) -> None:
    good = DECODERS[name].good
    fields = json.loads(zlib.decompress(good) if name in COMPRESSED else good)
    spoiled = {**fields, data.draw(st.sampled_from([*fields, "unknown"])): data.draw(JSON)}
    raw = json.dumps(spoiled).encode()
    result = outcome(DECODERS[name], zlib.compress(raw, 1) if name in COMPRESSED else raw)
    assert result == "refused" or "unknown" not in spoiled


NESTED = [b"[" * 10**6, b'{"a":' * 10**5, b"[" * 10**5 + b"]" * 10**5, b'{"groups":' + b"[" * 10**6, b"9" * 10**6]


@cache
def bomb() -> bytes:
    """A gigabyte of zeros."""
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(bytes(8 * MIB)) for _ in range(128)), packer.flush()])


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_bomb_takes_no_more_than_the_cap(name: str) -> None:
    for packed in [bomb(), *map(zlib.compress, NESTED)]:
        assert refused_within_the_cap(DECODERS[name], packed)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_nested_or_claims_to_be_long_is_refused(name: str) -> None:
    claims = [b"\xdd\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x50", b"\x91" * 10**5, b"\xdf\x7f\xff\xff\xff"]
    for raw in [*NESTED, *claims]:
        assert refused_within_the_cap(DECODERS[name], raw)


@settings(max_examples=60, deadline=None)
@given(inner=st.binary(max_size=120) | changed(msgpack.packb([1.0, 1.0, [[ME.peer_id, encode_record(SAID), 1.0]]])))
def test_dictionaries_of_records(inner: bytes) -> None:
    decoder = Decoder(decode_dictionary, Refused, MIB, b"")
    outcome(decoder, msgpack.packb(msgpack.ExtType(0x50, inner)))
    outcome(decoder, inner)


def test_a_long_dictionary_claim_allocates_nothing() -> None:
    decoder = Decoder(decode_dictionary, Refused, MIB, b"")
    for inner in (b"\x93\xc0\xc0\xdd\xff\xff\xff\xff", b"\x93\xc0\xc0" + b"\x91" * 10**5):
        assert refused_within_the_cap(decoder, msgpack.packb(msgpack.ExtType(0x50, inner)))
