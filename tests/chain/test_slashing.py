"""What a peer signs in the DHT is what the contract takes as proof against it.

Without stakes the last thing that the contract misses is something to take; with stakes it takes them.
"""

import pytest

from swarm.chain.client import Chain, Transaction
from swarm.chain.outbox import Outbox
from swarm.chain.registry import RegistryError, Terms, deploy, send
from swarm.events import Emitter
from swarm.identity.key import point_of
from swarm.journal.journal import Journal, OutboxState
from swarm.network.announcements import make
from swarm.network.equivocation import Proof
from swarm.round.accusation import reporter
from tests.network.network_peers import until

EXPIRY_MS = 1_800_000_000_123
# A token that says yes to everything; what anybody is said to have grows by 100 with every transfer.
TOKEN = bytes.fromhex(
    "602e80600b6000396000f360003560e01c6370a0823114602257600054606401600055600160005260206000f35b60005460005260206000f3"
)


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


def test_a_stake_is_destroyed_by_the_proof_that_a_peer_reports(embedded, new_identity, tmp_path):
    chain = Chain(embedded.url, expected_chain_id=embedded.chain_id)
    founder, culprit, witness = new_identity(), new_identity(), new_identity()
    assert all(chain.faucet(identity.address) for identity in (founder, culprit, witness))
    token = send(chain, founder, Transaction(None, TOKEN)).contract_address
    terms = Terms(b"\x11" * 32, 1_800_000_000, 60, stake_token=token, stake_amount=100, unbonding_seconds=60)
    registry = deploy(chain, founder, terms)
    registry.register(culprit)
    send(chain, culprit, registry.transaction("stake", culprit.address, 100))
    assert registry.view("stakeOf", culprit.address)[0] == 100

    swarm = f"{chain.chain_id}:{registry.address}"
    proof = Proof.of(*(make(culprit, swarm, "3/answer", value, EXPIRY_MS) for value in (b"one", b"two")))
    journal = Journal(tmp_path / "journal.sqlite")
    outbox = Outbox(journal, chain, witness, Emitter(lambda event: None, "witness"))
    reporter(registry, outbox)(proof, True)
    outbox.start()
    until(lambda: journal.outbox(OutboxState.MINED), 20)
    assert outbox.stop()
    assert registry.view("stakeOf", culprit.address)[0] == 0
    journal.close()
