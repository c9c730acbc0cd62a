"""Owners as the chain knows them decide who judges whom, the same for everybody and whenever it is asked."""

import time

import pytest

from swarm.chain.owners import OwnerHistory
from swarm.chain.ownership import Ownership
from swarm.chain.registry import Terms, deploy, send
from swarm.recipe import catalogue
from swarm.round.assignment import Assigner
from swarm.round.clock import Clock
from swarm.round.owners import owners_of

FAR = 4_000_000_000


@pytest.fixture
def young(chain, founder):
    """A registry whose rounds have begun."""
    return deploy(chain, founder, Terms(b"\x11" * 32, genesis=int(time.time()) - 1000, round_seconds=10))


def a_moment(registry, identity):
    """The second of a block that changes no owner and has that second for itself."""
    chain = registry.chain
    assert chain.faucet(identity.address)
    for is_before in (True, False):
        moment = chain.head().timestamp
        while time.time() < moment + 1:
            time.sleep(0.05)
        if is_before:
            registry.register(identity)
    return moment


def test_peers_of_one_owner_never_judge_each_other(chain, young, new_identity):
    identities = [new_identity() for _ in range(6)]
    assert all(chain.faucet(identity.address) for identity in identities)
    owner = new_identity()
    assert chain.faucet(owner.address)
    ownership = Ownership(young)
    for identity in identities:
        young.register(identity)
    before = a_moment(young, new_identity())
    for identity in identities[:3]:
        consent = ownership.sign_link(owner, identity.address, owner.address, FAR)
        send(chain, identity, ownership.link(identity.address, owner.address, FAR, owner_signature=consent))
    linked = a_moment(young, new_identity())
    send(chain, owner, ownership.unlink(identities[0].address))
    unlinked = a_moment(young, new_identity())

    peers = [identity.peer_id for identity in identities]
    for history in (OwnerHistory(young), OwnerHistory(young)):
        assert history.of(peers, before) == {}
        assert history.of(peers, linked) == dict.fromkeys(peers[:3], owner.address)
        assert history.of(peers, unlinked) == dict.fromkeys(peers[1:3], owner.address)
        assert history.of(peers, linked) == dict.fromkeys(peers[:3], owner.address), "also asked again"

    recipe = catalogue.find("tiny")
    recipe = recipe.model_copy(update={"sharing": recipe.sharing.model_copy(update={"judges": 5})})
    clock = Clock(linked, recipe.timing)  # round 0 begins when three are linked
    drawn = Assigner(recipe, owners_of(young, clock)).draw(0, b"seed", dict.fromkeys(peers, 4))
    assert set(drawn.owners) == set(peers[:3])
    pairs = {(judge, item.author) for item, judges in drawn.judges.items() for judge in judges}
    assert not [pair for pair in pairs if set(pair) <= set(peers[:3])]
    assert {judge for judge, author in pairs if author in peers[:3]} <= set(peers[3:])
    assert [pair for pair in pairs if pair[1] in peers[3:] and pair[0] in peers[:3]], "they judge others"
