"""What a peer signs in the DHT is what the contract takes as proof against it.

The swarm has no stakes, so the last thing that the contract misses is something to take.
"""

import pytest

from swarm.chain.registry import RegistryError, send
from swarm.identity.key import point_of
from swarm.network.announcements import make

EXPIRY_MS = 1_800_000_000_123


@pytest.fixture
def refusal(registry, founder, new_identity):
    """How the contract refuses two announcements (value, slot, swarm id) of a peer, as proof for a slot."""
    identity = new_identity()
    point = point_of(identity.peer_id)

    def of(slot, *announcements):
        proof = []
        for value, signed_slot, swarm in announcements:
            signature = make(identity, swarm, signed_slot, value, EXPIRY_MS).signature
            proof.append((value, EXPIRY_MS, signature))
        with pytest.raises(RegistryError) as caught:
            send(
                registry.chain, founder, registry.transaction("slashAnnouncement", point[:32], point[32:], slot, *proof)
            )
        assert caught.value.name != "NothingStaked" or identity.address.lower() in str(caught.value).lower()
        return caught.value.name

    return of


@pytest.mark.parametrize("slot", ["0/answer", "18446744073709551615/critique", "42/revise"])
def test_two_values_in_one_slot_are_proof(registry, refusal, slot):
    here = f"{registry.chain.chain_id}:{registry.address}"
    elsewhere = here[:-1] + ("0" if here[-1] != "0" else "1")
    first = (b"one", slot, here)
    assert refusal(slot, first, (b"another", slot, here)) == "NothingStaked"
    assert refusal(slot, first, (b"one", slot, here)) == "NotTwoStatements"
    assert refusal(slot, first, (b"another", f"1{slot}", here)) == "NotOneSigner"
    assert refusal(slot, first, (b"another", slot, elsewhere)) == "NotOneSigner"


@pytest.mark.parametrize("slot", ["live", "7/done", "/answer", "7/answers"])
def test_what_may_be_said_again_is_no_proof(registry, refusal, slot):
    here = f"{registry.chain.chain_id}:{registry.address}"
    assert refusal(slot, (b"one", slot, here), (b"another", slot, here)) == "NotAFinalSlot"
