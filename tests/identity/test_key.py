"""One key: libp2p id, signer, Ethereum account."""

import stat

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import SwarmError
from swarm.identity.key import Identity, address_of, digest, load_or_create, peer_id_of, public_key_of, verify
from swarm.identity.names import name_of

ME = Identity(b"\x01" * 32)
OTHER = Identity(b"\x02" * 32)
HALF_ORDER_LIMIT = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_made_once_private_and_the_same_again(tmp_path):
    path = tmp_path / "sub" / "identity.key"
    first = load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create(path).peer_id == first.peer_id
    assert list(path.parent.iterdir()) == [path]


def test_account_is_the_one_that_ethereum_tools_see():
    assert Account.from_key(b"\x01" * 32).address == ME.address == address_of(ME.peer_id)


def test_peer_id_holds_the_public_key():
    assert ME.peer_id.startswith("16Uiu2HA")
    assert public_key_of(ME.peer_id) == ME.public_key
    assert peer_id_of(ME.public_key) == ME.peer_id


def test_signatures():
    message = digest("test", b"hello")
    signature = ME.sign(message)
    assert verify(ME.peer_id, message, signature)
    assert not verify(OTHER.peer_id, message, signature)
    assert not verify(ME.peer_id, digest("test", b"hullo"), signature)
    assert not verify(ME.peer_id, digest("other", b"hello"), signature)


def test_a_signature_has_one_form():
    message = digest("test", b"hello")
    signature = ME.sign(message)
    s = int.from_bytes(signature[32:64], "big")
    assert s <= HALF_ORDER_LIMIT
    twin = signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes([1 - signature[64]])
    assert not verify(ME.peer_id, message, twin)


def test_parts_are_not_confused():
    assert digest("d", b"ab", b"c") != digest("d", b"a", b"bc") != digest("d", b"abc")


@given(st.text(max_size=80), st.binary(max_size=70), st.binary(max_size=40))
def test_garbage_is_false_and_never_raises(peer_id, signature, message):
    assert not verify(peer_id, message, signature)
    assert not verify(ME.peer_id, digest("x"), signature)


def test_a_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "identity.key"
    load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(SwarmError, match="chmod 600"):
        load_or_create(path)


def test_a_file_that_is_no_key_is_refused(tmp_path):
    path = tmp_path / "identity.key"
    path.write_bytes(b"nonsense")
    path.chmod(0o600)
    with pytest.raises(SwarmError, match="not a secp256k1"):
        load_or_create(path)


def test_the_secret_is_not_shown():
    assert (b"\x01" * 32).hex() not in repr(ME) and ME.peer_id in repr(ME)


def test_names_are_two_words_and_stable():
    assert name_of(ME.peer_id) == name_of(ME.peer_id) != name_of(OTHER.peer_id)
    assert len(name_of(ME.peer_id).split("-")) == 2
