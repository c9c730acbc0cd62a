"""Two words in one slot: whoever meets both has proof, and nobody has proof against an honest peer."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.events import Emitter
from swarm.identity.key import Identity
from swarm.journal.journal import Journal
from swarm.network import Network
from swarm.network.announcements import Announcement, Refused, decode_record, encode_record, make, record_key, shard_of
from swarm.network.equivocation import MAX_PROOFS, Proof, Witness, decode_proofs, encode_proofs
from swarm.round.accusation import Accuser
from tests.network.network_peers import until

ANN, BOB = Identity(b"\x01" * 32), Identity(b"\x02" * 32)
SWARM = "test swarm"


def said(value: bytes, slot: str = "7/answer", who: Identity = ANN, expiry_ms: int = 10**12) -> Announcement:
    return make(who, SWARM, slot, value, expiry_ms)


def test_two_values_are_proof_and_one_value_twice_is_not() -> None:
    witness = Witness()
    witness.note(said(b"one"))
    witness.note(said(b"one", expiry_ms=10**12 + 5))
    witness.note(said(b"two", slot="8/answer"))
    witness.note(said(b"two", who=BOB))
    for value in (b"I am here", b"I am still here"):
        witness.note(said(value, slot="live"))
    assert witness.proofs(7) == []
    witness.note(said(b"two"))
    witness.note(said(b"three"))
    assert [(proof.peer_id, proof.slot, proof.round) for proof in witness.proofs(7)] == [(ANN.peer_id, "7/answer", 7)]


@pytest.mark.parametrize(
    "other",
    [said(b"one"), said(b"two", who=BOB), said(b"two", slot="7/revise"), said(b"two", slot="live")],
    ids=["one value", "two writers", "two slots", "no final slot"],
)
def test_what_is_no_proof(other: Announcement) -> None:
    with pytest.raises(Refused, match="no equivocation"):
        Proof.of(said(b"one", slot=other.slot if other.slot == "live" else "7/answer"), other)


def test_proofs_travel_and_everybody_has_the_same() -> None:
    proof = Proof.of(said(b"one"), said(b"two"))
    assert proof == Proof.of(said(b"two"), said(b"one"))
    assert decode_proofs(SWARM, encode_proofs([proof])) == [proof]
    assert len(decode_proofs(SWARM, encode_proofs([proof] * (MAX_PROOFS + 5)))) == MAX_PROOFS
    with pytest.raises(Refused, match="bad signature"):
        decode_proofs("another swarm", encode_proofs([proof]))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_a_proof_against_the_honest(data: st.DataObject) -> None:
    raw = bytearray(encode_proofs([Proof.of(said(b"one"), said(b"two"))]))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    for candidate in (bytes(raw), bytes(raw[:place]), data.draw(st.binary(max_size=200))):
        try:
            assert decode_proofs(SWARM, candidate) == []  # an empty list is well formed
        except Refused:
            continue


def test_a_peer_that_says_different_things_to_different_peers_is_left_out_by_all(
    local: Callable[..., Network], tmp_path: Path
) -> None:
    peers = [local()]
    peers += [local(bootstrap=peers[0].addresses) for _ in range(2)]
    expiry_ms = round((time.time() + 600) * 1000)
    for peer, value in zip(peers, (b"one", b"two", b"one"), strict=True):
        peer._call(_hold(peer, said(value, expiry_ms=expiry_ms)), 5)
    events: list[dict[str, object]] = []
    reports: list[tuple[str, bool]] = []
    accusers, journals = [], []
    for number, peer in enumerate(peers):
        journals.append(Journal(tmp_path / f"{number}.sqlite"))
        accusers.append(
            Accuser(
                network=peer,
                swarm=SWARM,
                is_member=lambda _: True,
                journal=journals[-1],
                lifetime_s=600,
                emit=Emitter(events.append, str(number)),
                report=lambda proof, saw_it: reports.append((proof.peer_id, saw_it)),
            )
        )
    assert [accuser.accused(7) for accuser in accusers] == [set(), set(), set()], "nobody has met both yet"
    peers[0].read("7/answer")
    assert accusers[0].accused(7) == {ANN.peer_id}
    until(lambda: accusers[2].accused(7) == {ANN.peer_id})  # which never reads that slot
    assert accusers[2].accused(8) == set(), "it is left out of that round only"
    assert reports == [(ANN.peer_id, True), (ANN.peer_id, False)]
    assert [(event["peer"], event["saw_it"]) for event in events] == [("0", True), ("2", False)]
    for journal in (journals[0], journals[2]):
        ((number, slot, peer_id, first, second, _),) = journal.equivocations()
        assert (number, slot, peer_id) == (7, "7/answer", ANN.peer_id)
        assert {decode_record(SWARM, peer_id, raw).value for raw in (first, second)} == {b"one", b"two"}
    for journal in journals:
        journal.close()


async def _hold(peer: Network, announcement: Announcement) -> None:
    key = record_key(SWARM, announcement.slot, shard_of(announcement.peer_id))
    assert peer._node.protocol.keep(key, announcement.peer_id, encode_record(announcement), announcement.expires)
