"""Proofs as OpenZeppelin's MerkleProof checks them."""

import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from swarm.settlement.merkle import MerkleTree, leaf

accounts = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


def process_proof(proof, node):
    """MerkleProof.processProof of OpenZeppelin 5."""
    for sibling in proof:
        node = keccak(min(node, sibling) + max(node, sibling))
    return node


@given(st.dictionaries(accounts, st.integers(0, 2**128 - 1), min_size=1, max_size=40))
def test_every_account_has_a_proof_and_no_other_amount_has(points):
    tree = MerkleTree(points)
    assert tree.root == MerkleTree(dict(reversed(points.items()))).root
    for account, value in points.items():
        proof = tree.proof(account)
        assert process_proof(proof, leaf(account, value)) == tree.root
        assert process_proof(proof, leaf(account, value + 1)) != tree.root


def test_a_leaf_is_hashed_twice():
    """Else an inner node, which is 64 bytes before hashing, could be claimed as a leaf."""
    account = "0x" + "00" * 19 + "01"
    assert leaf(account, 2) == keccak(keccak(bytes(31) + b"\x01" + bytes(31) + b"\x02"))


def test_an_empty_tree_is_refused():
    with pytest.raises(ValueError):
        MerkleTree({})
