"""Invites: read back exactly, and everything else is one sentence."""

import base64
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import SwarmError
from swarm.identity.key import Identity
from swarm.network.addresses import check_address
from swarm.network.invite import Invite

PEER = Identity(b"\x07" * 32).peer_id
GOOD = Invite("http://192.0.2.1:8545", 31337, "0x" + "ab" * 20, (f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}",))


def packed(fields: object, version: int = 1) -> str:
    body = bytes([version]) + json.dumps(fields).encode()
    checksum = hashlib.sha256(b"swarm invite" + body).digest()[:4]
    return "swarm:" + base64.urlsafe_b64encode(body + checksum).rstrip(b"=").decode()


def refusal(text: str) -> str:
    with pytest.raises(SwarmError) as caught:
        Invite.decode(text)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


def test_it_is_read_back() -> None:
    assert Invite.decode(GOOD.encode()) == GOOD
    assert Invite.decode(f"  {GOOD.encode()}\n") == GOOD
    alone = Invite("", 0, "", ())
    assert Invite.decode(alone.encode()) == alone


def test_each_fault_has_its_sentence() -> None:
    text = GOOD.encode()
    assert "does not begin with" in refusal("hello")
    assert "does not begin with" in refusal("")
    assert "cut short" in refusal(text[:-5])
    assert "cut short" in refusal("swarm:")
    assert "checksum" in refusal(text.replace(text[20], "A" if text[20] != "A" else "B", 1))
    assert "characters that no invite has" in refusal(text + "!")
    assert "version 2" in refusal(packed(["", 0, "", []], version=2))
    assert "four fields" in refusal(packed(["", 0]))
    assert "four fields" in refusal(packed({"a": 1}))
    assert "wrong type" in refusal(packed(["", True, "", []]))
    assert "wrong type" in refusal(packed(["", 0, "", [1]]))
    assert "URL" in refusal(packed(["file:///etc/passwd", 1, GOOD.contract, []]))
    assert "URL" in refusal(packed(["http://:99999", 1, GOOD.contract, []]))
    assert "contract" in refusal(packed([GOOD.chain_rpc, 1, "0x12", []]))
    assert "chain id" in refusal(packed([GOOD.chain_rpc, -1, GOOD.contract, []]))
    assert "peer's address" in refusal(packed([GOOD.chain_rpc, 1, GOOD.contract, ["/ip4/1.2.3.4/tcp/1"]]))
    assert "bootstraps" in refusal(packed([GOOD.chain_rpc, 1, GOOD.contract, [GOOD.bootstrap[0]] * 17]))
    assert "more than" in refusal("swarm:" + "A" * 5000)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_one_sentence(text: str) -> None:
    refusal(text)
    refusal("swarm:" + text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
@settings(max_examples=200, deadline=None)
def test_any_body_with_a_right_checksum_gives_one_sentence_or_an_invite(fields: object) -> None:
    for body in (fields, ["http://a", 1, GOOD.contract, [fields]], [fields, 1, GOOD.contract, []], ["", 1, fields, []]):
        try:
            invite = Invite.decode(packed(body))
        except SwarmError:
            continue
        assert Invite.decode(invite.encode()) == invite


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_or_cut_invite_is_never_another_invite(data: st.DataObject) -> None:
    text = GOOD.encode()
    place = data.draw(st.integers(6, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    for changed in (text[:place] + letter + text[place + 1 :], text[:place], text[:place] + letter + text[place:]):
        if changed != text:
            refusal(changed)


@pytest.mark.parametrize(
    "address",
    ["", "nonsense", "/ip4/1.2.3.4/tcp/1", f"/ip4/999.1.1.1/tcp/1/p2p/{PEER}", f"/ip4/1.2.3.4/tcp/99999/p2p/{PEER}",
     f"/ip4/1.2.3.4/p2p/{PEER}", "/ip4/1.2.3.4/tcp/1/p2p/QmWrong", f"/p2p/{PEER}", f"/unix/tmp/x/p2p/{PEER}",
     f"/ip4/1.2.3.4/tcp/1,/ip4/1.2.3.5/tcp/1/p2p/{PEER} ", "/ip4/1.2.3.4/tcp/1/p2p/" + "1" * 600],
)  # fmt: skip
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(SwarmError, match="not a peer's address"):
        check_address(address)


@given(st.text(max_size=100))
@settings(max_examples=200, deadline=None)
def test_no_text_crashes_the_address_check(text: str) -> None:
    for address in (text, "/" + text, f"/ip4/{text}/tcp/1/p2p/{PEER}", f"/ip4/1.2.3.4/tcp/1/{text}/p2p/{PEER}"):
        try:
            check_address(address)
        except SwarmError:
            pass


def test_good_addresses() -> None:
    for head in ("/ip4/1.2.3.4/tcp/1", "/ip6/::1/tcp/4001", "/dns/swarm.example/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1"):
        assert check_address(f"{head}/p2p/{PEER}")[0].to_base58() == PEER
