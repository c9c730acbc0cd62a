"""The contract through the client, on the real embedded chain."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.chain.abi import artifact, call_data
from swarm.chain.client import Chain, InsufficientFunds, Reverted, Transaction
from swarm.chain.registry import _SENTENCES, NO_ADDRESS, Registry, RegistryError, Terms, _explained, deploy
from swarm.errors import SwarmError
from swarm.identity.key import point_of

RECIPE_HASH = b"\x11" * 32
FIELD_PRIME = 2**256 - 2**32 - 977
CONTRACTS = Path(__file__).parents[2] / "contracts"


def refused_by(registry, identity, *arguments):
    """The sentence with which the contract refuses a registration by `identity`."""
    with pytest.raises(Reverted) as caught:
        registry.chain.send(identity, Transaction(registry.address, call_data("register", *arguments)))
    error = _explained(caught.value)
    assert isinstance(error, RegistryError)
    return error


def test_the_terms_are_read_back(chain, founder, new_identity):
    plain = deploy(chain, founder, Terms(RECIPE_HASH, 1_800_000_000, 60))
    founder_address = founder.address
    assert plain.terms() == Terms(
        RECIPE_HASH, 1_800_000_000, 60, 3600, 60, 0, founder_address, founder_address, bootstrap=()
    )
    assert (plain.peer_count(), plain.peers()) == (0, [])
    token, other = plain.address, new_identity().address  # any contract can be named as a token
    full = Terms(RECIPE_HASH, 1, 2, 3, 4, 5, other, founder_address, token, 6, token, 7, 8, ("/ip4/1.2.3.4/tcp/5", "b"))
    assert deploy(chain, founder, full).terms() == full


def test_peers_register_and_are_listed_in_order(registry, chain, new_identity):
    identities = [new_identity() for _ in range(5)]
    gas = []
    for identity in identities:
        assert not registry.is_registered(identity.peer_id)
        receipt = registry.register(identity)  # the account is empty: the faucet pays
        assert receipt is not None
        gas.append(receipt.gas_used)
    assert max(gas) < 150_000 and min(gas) < 95_000  # the first ones open storage that all later ones share
    assert registry.peers() == [identity.peer_id for identity in identities]
    assert registry.peer_count() == 5
    assert all(Registry(chain, registry.address).is_registered(identity.peer_id) for identity in identities)


def test_peers_are_read_page_by_page(registry, new_identity, monkeypatch):
    identities = [new_identity() for _ in range(5)]
    for identity in identities:
        registry.register(identity)
    for page in (1, 2, 5, 6):
        monkeypatch.setattr("swarm.chain.registry.PAGE", page)
        assert registry.peers() == [identity.peer_id for identity in identities]
    assert registry.view("peers", 4, 2**256 - 1) == registry.view("peers", 4, 1)
    assert registry.view("peers", 2**256 - 1, 2**256 - 1) == ()


def test_registering_twice_is_fine_for_the_client_and_refused_by_the_contract(registry, new_identity):
    identity = new_identity()
    assert registry.register(identity) is not None
    assert registry.register(identity) is None
    point = point_of(identity.peer_id)
    error = refused_by(registry, identity, point[:32], point[32:])
    assert error.name == "AlreadyRegistered" and identity.address.lower() in str(error).lower()
    assert registry.peer_count() == 1


def test_a_key_registered_meanwhile_by_another_process_is_fine(registry, chain, new_identity, monkeypatch):
    identity = new_identity()
    registry.register(identity)
    late = Registry(chain, registry.address)
    monkeypatch.setattr(late, "is_registered", lambda peer_id: False)
    assert late.register(identity) is None


def test_a_foreign_key_is_refused(registry, founder, new_identity):
    point = point_of(new_identity().peer_id)
    error = refused_by(registry, founder, point[:32], point[32:])
    assert error.name == "SenderIsNotKey" and founder.address.lower() in str(error).lower()
    assert registry.peer_count() == 0


def test_points_off_the_curve_are_refused(registry, founder):
    point = point_of(founder.peer_id)
    x, y = int.from_bytes(point[:32], "big"), int.from_bytes(point[32:], "big")
    off_curve = [(x, y ^ 1), (x, 0), (0, 0), (y, x), (FIELD_PRIME, y), (2**256 - 1, 2**256 - 1)]
    on_curve = (1, pow(8, (FIELD_PRIME + 1) // 4, FIELD_PRIME))
    off_curve.append((on_curve[0] + FIELD_PRIME, on_curve[1]))  # a second name of a point
    error = refused_by(registry, founder, *(number.to_bytes(32, "big") for number in on_curve))
    assert error.name == "SenderIsNotKey"
    for bad_x, bad_y in off_curve:
        error = refused_by(registry, founder, bad_x.to_bytes(32, "big"), bad_y.to_bytes(32, "big"))
        assert error.name == "PointNotOnCurve"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"recipe_hash": bytes(32)}, "recipeHash is zero"),
        ({"round_seconds": 0, "epoch_seconds": 1}, "roundSeconds is zero"),
        ({"epoch_seconds": 0}, "epochSeconds is zero"),
        ({"challenge_seconds": 0}, "challengeSeconds is zero"),
        ({"governance": NO_ADDRESS}, "governance is zero"),
        ({"genesis": -1}, "cannot have the terms"),
        ({"round_seconds": 2**32}, "cannot have the terms"),
        ({"governance": "nonsense"}, "cannot have the terms"),
        ({"delay_seconds": 1}, "must be two accounts"),
        ({"reward_token": "0x" + "ab" * 20, "tokens_per_point": 1}, "no contract at 0xabab"),
        ({"tokens_per_point": 1}, "belong together"),
        ({"bootstrap": ("a",) * 17}, "17 bootstrap addresses"),
        ({"bootstrap": ("a", "b" * 201)}, "bootstrap address 1 has 201 bytes"),
    ],
)
def test_bad_terms_are_refused_with_a_sentence(chain, founder, changes, sentence):
    with pytest.raises(SwarmError, match=sentence):
        deploy(chain, founder, replace(Terms(RECIPE_HASH, 1, 60), **changes))


def test_every_error_of_the_contract_has_a_sentence():
    errors = {entry["name"]: entry["inputs"] for entry in artifact().abi if entry["type"] == "error"}
    never_raised = {"InvalidAccountNonce", "InvalidShortString", "StringTooLong", "StringsInsufficientHexLength"}
    assert set(_SENTENCES) == set(errors) - never_raised
    for name, sentence in _SENTENCES.items():
        assert sentence.format(*("x" for _ in errors[name]))


def test_an_address_without_our_contract_is_refused(chain, founder, new_identity):
    with pytest.raises(SwarmError, match="no contract at"):
        Registry(chain, new_identity().address)
    foreign = bytes.fromhex("6001600c60003960016000f300")  # deploys one byte of code: STOP
    receipt = chain.send(founder, Transaction(None, foreign))
    with pytest.raises(SwarmError, match="no swarm registry"):
        Registry(chain, receipt.contract_address)


def test_what_is_no_peer_id_is_not_registered(registry):
    for text in ("", "0", "QmNotOurs", "1" * 1000, "\x00é"):
        assert not registry.is_registered(text)


def test_membership_is_asked_once_and_then_remembered(registry, node, new_identity):
    identity = new_identity()
    registry.register(identity)
    reader = Registry(Chain(node.url), registry.address)
    assert reader.is_registered(identity.peer_id)
    reader.chain = None  # a second look needs no chain
    assert reader.is_registered(identity.peer_id)


def test_without_a_faucet_the_missing_amount_is_named(registry, new_identity, monkeypatch):
    identity = new_identity()
    monkeypatch.setattr(registry.chain, "faucet", lambda address: False)
    with pytest.raises(InsufficientFunds, match=f"{identity.address} has 0 ether.*send it at least") as caught:
        registry.register(identity)
    assert 0 < caught.value.missing_wei < 10**18 and caught.value.address == identity.address


def test_the_artifact_was_built_from_these_sources():
    digest = hashlib.sha256()
    for path in sorted((CONTRACTS / "src").iterdir()):
        for part in (f"src/{path.name}".encode(), path.read_bytes()):
            digest.update(b"%d\n" % len(part) + part)
    assert artifact().source_sha256 == digest.hexdigest()


def test_an_address_in_any_writing_is_taken(registry, chain, new_identity):
    lower = Registry(chain, registry.address.lower())
    assert lower.address == registry.address
    assert lower.register(new_identity()) is not None


@pytest.mark.parametrize("address", ["", "0x12", "nonsense", "0x" + "g" * 40])
def test_what_is_no_address_is_said(chain, address):
    with pytest.raises(SwarmError, match="not a contract's address"):
        Registry(chain, address)
