"""Merkle tree over cumulative points, as OpenZeppelin's MerkleProof verifies it: double-hashed leaves, sorted pairs."""

from collections.abc import Mapping

from eth_abi.abi import encode
from eth_hash.auto import keccak


def leaf(account: str, millionths: int) -> bytes:
    """The 32 bytes of one account's cumulative points."""
    return keccak(keccak(encode(["address", "uint256"], [account, millionths])))


class MerkleTree:
    """The tree of all accounts of an epoch; the order of the accounts does not matter."""

    def __init__(self, points: Mapping[str, int]) -> None:
        """`points`: cumulative millionths of points by account. Raises ValueError where there is no account."""
        if not points:
            raise ValueError("a tree needs at least one account")
        self._leaves = {account: leaf(account, value) for account, value in points.items()}
        layer = sorted(self._leaves.values())
        self._layers = [layer]
        while len(layer) > 1:
            pairs = [layer[i : i + 2] for i in range(0, len(layer), 2)]
            layer = [_parent(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
            self._layers.append(layer)

    @property
    def root(self) -> bytes:
        return self._layers[-1][0]

    def proof(self, account: str) -> list[bytes]:
        """What to hand to the contract along with the account's points. Raises KeyError for an unknown account."""
        place = self._layers[0].index(self._leaves[account])
        proof = []
        for layer in self._layers[:-1]:
            sibling = place ^ 1
            if sibling < len(layer):
                proof.append(layer[sibling])
            place //= 2
        return proof


def _parent(left: bytes, right: bytes) -> bytes:
    return keccak(min(left, right) + max(left, right))
