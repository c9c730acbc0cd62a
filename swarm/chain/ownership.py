"""Who a peer belongs to, as the registry keeps it: registration, owners, and keys in place of lost ones.

Each consent is an EIP-712 signature over this contract and chain, good once and until its deadline (unix seconds).
"""

from collections.abc import Mapping

from eth_utils.address import to_checksum_address

from swarm.chain.client import Transaction
from swarm.chain.registry import NO_ADDRESS, Registry
from swarm.identity.account import Account
from swarm.identity.key import Identity, point_of
from swarm.identity.typed import Types

_UNTIL = [{"name": "nonce", "type": "uint256"}, {"name": "deadline", "type": "uint256"}]
_REGISTRATION: Types = {
    "Registration": [{"name": "x", "type": "bytes32"}, {"name": "y", "type": "bytes32"}, *_UNTIL],
}
_LINK: Types = {
    "Link": [{"name": "peer", "type": "address"}, {"name": "owner", "type": "address"}, *_UNTIL],
}
_UNLINK: Types = {"Unlink": [{"name": "peer", "type": "address"}, *_UNTIL]}
_ROTATION: Types = {
    "Rotation": [
        {"name": "oldPeer", "type": "address"},
        {"name": "newPeer", "type": "address"},
        {"name": "owner", "type": "address"},
        *_UNTIL,
    ]
}


class Ownership:
    """The peers of one registry and their owners. Peers and owners are accounts."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_registered(self, account: str) -> bool:
        """Whether an account is a peer now, asked of the chain each time."""
        return self._registry.view("isRegistered", account)

    def owner_of(self, peer: str) -> str | None:
        """The owner of a peer, if it has one. A retired key keeps the owner who replaced it."""
        owner = self._registry.view("ownerOf", peer)
        return None if owner == NO_ADDRESS else to_checksum_address(owner)

    def peer_count_of(self, owner: str) -> int:
        """How many peers an owner has."""
        return self._registry.view("peerCountOf", owner)

    def register_for(self, identity: Identity, deadline: int) -> Transaction:
        """Makes `identity` a peer, whoever sends it."""
        point = point_of(identity.peer_id)
        message = {"x": point[:32], "y": point[32:]}
        signature = self._sign(identity, _REGISTRATION, message, deadline)
        return self._registry.transaction("registerFor", point[:32], point[32:], deadline, signature)

    def sign_link(self, signer: Account, peer: str, owner: str, deadline: int) -> bytes:
        """The consent of a peer or of an owner, whichever signs, to the link between them."""
        return self._sign(signer, _LINK, {"peer": peer, "owner": owner}, deadline)

    def link(
        self, peer: str, owner: str, deadline: int, *, peer_signature: bytes = b"", owner_signature: bytes = b""
    ) -> Transaction:
        """Links a peer to its owner; whoever sends it needs no signature."""
        return self._registry.transaction("linkOwner", peer, owner, deadline, peer_signature, owner_signature)

    def unlink(self, peer: str) -> Transaction:
        """Ends the link of a peer, sent by its owner."""
        return self._registry.transaction("unlinkOwner", peer)

    def unlink_for(self, owner: Account, peer: str, deadline: int) -> Transaction:
        """Ends the link of a peer of `owner`, whoever sends it."""
        signature = self._sign(owner, _UNLINK, {"peer": peer}, deadline)
        return self._registry.transaction("unlinkOwnerFor", peer, deadline, signature)

    def rotate(self, old_peer: str, new: Identity, owner: str, deadline: int) -> Transaction:
        """Puts the key `new` in the place of another one, sent by the owner."""
        message = {"oldPeer": old_peer, "newPeer": new.address, "owner": owner}
        signature = self._sign(new, _ROTATION, message, deadline)
        point = point_of(new.peer_id)
        return self._registry.transaction("rotateKey", old_peer, point[:32], point[32:], deadline, signature)

    def _sign(self, signer: Account, types: Types, message: Mapping[str, object], deadline: int) -> bytes:
        nonce = self._registry.view("nonces", signer.address)
        return signer.sign_typed_data(self._registry.domain, types, {**message, "nonce": nonce, "deadline": deadline})
