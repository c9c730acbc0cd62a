"""A secp256k1 key as an Ethereum account: what a peer's identity and an owner's wallet have in common."""

from typing import Any

from coincurve import PrivateKey
from eth_account import Account as EthAccount
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from swarm.identity.typed import Types, typed_digest


class Account:
    """A key that signs. The secret does not leave it, and is not in its repr."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        self.address = to_checksum_address(keccak(self._key.public_key.format(compressed=False)[1:])[-20:])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    def sign(self, digest: bytes) -> bytes:
        """65 bytes r, s, v over a 32-byte digest; v is 0 or 1 and s is in the lower half of the order."""
        if len(digest) != 32:
            raise ValueError(f"a digest has 32 bytes, not {len(digest)}")
        return self._key.sign_recoverable(digest, hasher=None)

    def sign_typed_data(self, domain: dict[str, Any], types: Types, message: dict[str, Any]) -> bytes:
        """65 bytes r, s, v by EIP-712; v is 27 or 28, as contracts want it."""
        signature = self.sign(typed_digest(domain, types, message))
        return signature[:64] + bytes([27 + signature[64]])

    def sign_transaction(self, fields: dict[str, Any]) -> bytes:
        """The signed transaction as it is sent."""
        return bytes(EthAccount.sign_transaction(fields, self._key.secret).raw_transaction)
