"""Announcement records: what is good passes, and each way to be bad is refused under its own name."""

import time
from collections import Counter
from dataclasses import replace

import msgpack
import pytest
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.dht.validation import DHTRecord
from hivemind.utils import MSGPackSerializer
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.identity.key import Identity
from swarm.network.announcements import (
    CLOCK_SLACK_S,
    MAX_LIFETIME_S,
    MAX_VALUE_BYTES,
    SHARDS,
    Announcement,
    Refused,
    check_record,
    encode_record,
    make,
    record_key,
    shard_of,
)
from swarm.network.validation import AnnouncementValidator, decode_dictionary, encode_tags, without

SWARM = "a swarm"
ANN, BOB = Identity(b"\x01" * 32), Identity(b"\x02" * 32)
NOW = 1_800_000_000.0


def said(slot: str = "round/1", value: bytes = b"hello", lifetime_s: float = 60, who: Identity = ANN) -> Announcement:
    return make(who, SWARM, slot, value, round((NOW + lifetime_s) * 1000))


def key_of(announcement: Announcement, swarm: str = SWARM) -> bytes:
    return record_key(swarm, announcement.slot, shard_of(announcement.peer_id))


def reason(announcement: Announcement, **changed: object) -> str:
    entry = {
        "swarm_id": SWARM,
        "key": key_of(announcement),
        "subkey": announcement.peer_id,
        "raw": encode_record(announcement),
        "expires": announcement.expires,
        "now": NOW,
        **changed,
    }
    with pytest.raises(Refused) as caught:
        check_record(**entry)  # type: ignore[arg-type]
    return caught.value.reason


@given(
    st.binary(max_size=MAX_VALUE_BYTES),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128),
)
@settings(max_examples=50, deadline=None)
def test_what_is_made_is_read_back(value: bytes, slot: str) -> None:
    announcement = said(slot, value)
    raw = encode_record(announcement)
    assert check_record(SWARM, key_of(announcement), ANN.peer_id, raw, announcement.expires, NOW) == announcement


def test_the_shards_of_a_slot_lie_together_and_slots_lie_apart() -> None:
    """So that in a small swarm few nodes hold a slot, and all nodes hold some."""
    slots = [f"{number}/answer" for number in range(200)]
    places = [{record_key(SWARM, slot, shard)[0] >> 4 for shard in range(SHARDS)} for slot in slots]
    assert {len(of_slot) for of_slot in places} == {1}
    assert set.union(*places) == set(range(16))
    assert len({record_key(SWARM, slot, shard) for slot in slots for shard in range(SHARDS)}) == 200 * SHARDS


def test_heartbeats_lie_where_peers_of_other_versions_look() -> None:
    """As version 2 computed it; whoever changes this parts the versions, and nobody is told why nobody is there."""
    assert record_key(SWARM, "live", 3) == bytes.fromhex("b8e6c49684f2c9df2ffbc76cd75f434a351184da")


def test_each_abuse_is_refused() -> None:
    good = said()
    raw = encode_record(good)
    assert reason(good, subkey=None) == "plain value"
    assert reason(good, subkey=b"bytes") == "plain value"
    assert reason(good, subkey=BOB.peer_id, key=record_key(SWARM, good.slot, shard_of(BOB.peer_id))) == "bad signature"
    assert reason(good, subkey="x" * 1000) == "foreign subkey"
    assert reason(good, subkey="\udcff") == "foreign subkey"
    assert reason(good, swarm_id="another swarm") == "wrong key"
    assert reason(good, swarm_id="another swarm", key=key_of(good, "another swarm")) == "bad signature"
    assert reason(good, key=record_key(SWARM, "round/2", shard_of(ANN.peer_id))) == "wrong key"
    assert reason(good, key=record_key(SWARM, good.slot, (shard_of(ANN.peer_id) + 1) % SHARDS)) == "wrong key"
    assert reason(replace(good, slot="round/2")) == "bad signature"
    assert reason(replace(good, value=b"other")) == "bad signature"
    assert reason(replace(good, signature=bytes(65))) == "bad signature"
    assert reason(good, expires=good.expires + 1) == "wrong expiry"
    assert reason(replace(good, expires=good.expires + 1)) == "bad signature"
    assert reason(good, now=good.expires) == "expired"
    assert reason(said(lifetime_s=MAX_LIFETIME_S + CLOCK_SLACK_S + 1)) == "expiry too far"
    assert reason(good, raw=raw + bytes(MAX_VALUE_BYTES)) == "too large"
    assert reason(good, raw=bytes([1, 1]) + b"x" + raw[9:] + bytes(MAX_VALUE_BYTES)) == "too large"
    assert reason(good, raw=raw[:20]) == "malformed record"
    assert reason(good, raw=b"\x02" + raw[1:]) == "malformed record"
    assert reason(good, raw=b"") == "malformed record"
    assert reason(good, expires=float("nan")) == "wrong expiry"


@given(st.binary(max_size=300), st.one_of(st.none(), st.text(max_size=80), st.binary(max_size=40)), st.floats())
@settings(max_examples=300, deadline=None)
def test_no_bytes_from_the_wire_crash_the_check(raw: bytes, subkey: object, expires: float) -> None:
    with pytest.raises(Refused):
        check_record(SWARM, b"k" * 20, subkey, raw, expires, NOW)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_good_record_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    announcement = said()
    raw = bytearray(encode_record(announcement))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        check_record(SWARM, key_of(announcement), ANN.peer_id, bytes(raw), announcement.expires, NOW)


@given(
    st.one_of(
        st.binary(max_size=200), st.binary(max_size=200).map(lambda inner: msgpack.packb(msgpack.ExtType(0x50, inner)))
    )
)
@settings(max_examples=300, deadline=None)
def test_no_bytes_crash_the_dictionary_decoder(raw: bytes) -> None:
    try:
        decode_dictionary(raw)
    except Refused:
        pass


def test_a_read_of_one_key_stays_small_with_a_thousand_writers() -> None:
    peers = [Identity(number.to_bytes(32, "big")).peer_id for number in range(1, 1001)]
    fullest = max(Counter(map(shard_of, peers)).values())
    heartbeat = encode_record(said("live", bytes(500)))  # a real one has about 400
    packed = DictionaryDHTValue()
    for peer in peers[:fullest]:
        packed.store(peer, heartbeat, 1e12)
    assert len(MSGPackSerializer.dumps(packed)) < 64 * 1024


def test_a_reader_tells_what_it_has_and_nobody_can_pass_for_another() -> None:
    records = {"ann": (b"one", 1.0), "bob": (b"two", 2.0)}
    assert without(records, encode_tags(b"saltsalt", [])) == records
    tags = encode_tags(b"saltsalt", [b"one"])
    assert without(records, tags) == {"bob": (b"two", 2.0)}
    assert tags[8:] != encode_tags(b"SALTSALT", [b"one"])[8:]


def test_a_deeply_nested_dictionary_is_refused() -> None:
    nested = b"\x91" * 100_000
    with pytest.raises(Refused):
        decode_dictionary(nested)
    with pytest.raises(Refused):
        decode_dictionary(msgpack.packb(msgpack.ExtType(0x50, nested)))


def test_a_caller_who_asks_for_too_much_is_told() -> None:
    for slot, value in (("", b""), ("two words", b""), ("x" * 129, b""), ("ok", bytes(MAX_VALUE_BYTES + 1))):
        with pytest.raises(ValueError, match=r"slot|bytes"):
            said(slot, value)


def test_the_validator_counts_and_remembers() -> None:
    refused: Counter[str] = Counter()
    validator = AnnouncementValidator(SWARM, refused)
    announcement = make(ANN, SWARM, "slot", b"v", round((time.time() + 60) * 1000))
    record = DHTRecord(
        key_of(announcement), msgpack.packb(ANN.peer_id), encode_record(announcement), announcement.expires
    )
    assert validator.validate(record)
    started = time.perf_counter()
    assert all(validator.validate(record) for _ in range(200))
    assert time.perf_counter() - started < 200 * 0.0003  # a verification takes longer, a memory does not
    assert not validator.validate(replace(record, subkey=msgpack.packb(None)))
    assert not validator.validate(replace(record, subkey=b"\xc1"))
    assert not validator.validate(replace(record, value=record.value[:-1] + b"w"))
    assert refused == {"plain value": 1, "malformed record": 1, "bad signature": 1}
