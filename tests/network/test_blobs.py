"""The blob store and the request for a blob, without a network."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.network.announcements import Refused
from swarm.network.blobs import MAX_BLOB_BYTES, BlobRef, BlobStore, decode_request, encode_request
from swarm.network.limits import Rate, TokenBuckets

MIB = 1024**2


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_request_decoder(raw: bytes) -> None:
    for candidate in (raw, b"\x02" + raw, (b"\x02" + raw + bytes(49))[:49]):
        try:
            ref, start = decode_request(candidate)
        except Refused:
            continue
        assert encode_request(ref, start) == candidate


def test_a_reference_is_exact() -> None:
    for sha256, size in (
        ("A" * 64, 1),
        ("../" + "a" * 61, 1),
        ("a" * 63, 1),
        ("a" * 64, -1),
        ("a" * 64, MAX_BLOB_BYTES + 1),
        ("a" * 64, True),
    ):
        with pytest.raises(ValueError, match=r"sha256|bytes"):
            BlobRef(sha256, size)


def test_kept_across_a_restart_and_dropped_when_damaged(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    ref = store.put(b"precious")
    (tmp_path / "left.partial").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"of somebody")
    again = BlobStore(tmp_path)
    assert again.get(ref) == b"precious"
    assert not (tmp_path / "left.partial").exists() and (tmp_path / "notes.txt").exists()
    assert again.get(BlobRef(ref.sha256, ref.size + 1)) is None
    (tmp_path / ref.sha256).write_bytes(b"damaged!")
    assert again.get(ref) is None and not (tmp_path / ref.sha256).exists()
    assert again.put(b"precious") == ref and again.get(ref) == b"precious"


def test_the_quota_evicts_the_least_recently_used(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota_bytes=MAX_BLOB_BYTES)
    refs = [store.put(bytes([number]) + os.urandom(20 * MIB)) for number in range(3)]
    assert store.get(refs[0]) is not None
    fourth = store.put(os.urandom(20 * MIB))
    assert [store.get(ref) is not None for ref in [*refs, fourth]] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= MAX_BLOB_BYTES


def test_a_flooder_empties_its_own_bucket_only() -> None:
    now = [0.0]
    buckets = TokenBuckets(Rate(per_second=10, burst=20), clock=lambda: now[0])
    assert [buckets.take("flooder", 1) for _ in range(25)].count(True) == 20
    assert buckets.take("other", 20)
    now[0] += 1
    assert [buckets.take("flooder", 1) for _ in range(25)].count(True) == 10
    assert buckets.owe("debtor", 40) == 2.0
