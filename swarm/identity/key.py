"""One secp256k1 key per peer.

The key file is a libp2p private key (protobuf), mode 0600, so the libp2p daemon reads it as it is. The peer id is the
identity multihash of the public key: whoever knows a peer id knows the key that must have signed its records, and the
Ethereum address that it has.
"""

from pathlib import Path

import base58
from coincurve import PrivateKey, PublicKey
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from swarm.errors import SwarmError
from swarm.identity.account import Account
from swarm.identity.files import read_private, write_private

SIGNATURE_BYTES = 65
PEER_ID_MAX_CHARS = 64

_PRIVATE_PREFIX = b"\x08\x02\x12\x20"  # protobuf: key type secp256k1, 32 bytes of data follow
_PEER_ID_PREFIX = b"\x00\x25\x08\x02\x12\x21"  # identity multihash of: key type secp256k1, 33 bytes of data follow
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class Identity(Account):
    """The key of this peer. Never printed: repr shows the peer id only."""

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self.public_key = self._key.public_key.format(compressed=True)
        self.peer_id = peer_id_of(self.public_key)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"


def verify(peer_id: str, digest: bytes, signature: bytes) -> bool:
    """Whether `signature` over the 32-byte `digest` was made by the key of `peer_id`. Malformed input is False."""
    if len(digest) != 32 or len(signature) != SIGNATURE_BYTES or signature[64] > 1:
        return False
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:  # one signature, one form
        return False
    try:
        signer = PublicKey.from_signature_and_message(signature, digest, hasher=None)
        return signer.format(compressed=True) == public_key_of(peer_id)
    except Exception:  # noqa: BLE001 - coincurve raises bare Exception for a point that is not on the curve
        return False


def digest(domain: str, *parts: bytes) -> bytes:
    """keccak256 over a domain name and length-prefixed parts, so that no two lists of parts share a digest."""
    packed = b"".join(len(part).to_bytes(8, "big") + part for part in (domain.encode(), *parts))
    return keccak(packed)


def peer_id_of(public_key: bytes) -> str:
    """The libp2p peer id (base58) of a 33-byte compressed public key."""
    return base58.b58encode(_PEER_ID_PREFIX + public_key).decode()


def public_key_of(peer_id: str) -> bytes:
    """The 33-byte compressed public key inside a peer id. Raises ValueError for anything else than such an id."""
    if len(peer_id) > PEER_ID_MAX_CHARS:
        raise ValueError(f"not a secp256k1 peer id: {len(peer_id)} characters")
    raw = base58.b58decode(peer_id)
    if len(raw) != 39 or not raw.startswith(_PEER_ID_PREFIX):
        raise ValueError(f"not a secp256k1 peer id: {peer_id!r}")
    return raw[len(_PEER_ID_PREFIX) :]


def point_of(peer_id: str) -> bytes:
    """The 64-byte uncompressed point x, y of a peer's public key, as the contract takes it."""
    return PublicKey(public_key_of(peer_id)).format(compressed=False)[1:]


def address_of(peer_id: str) -> str:
    """The checksummed Ethereum address of a peer."""
    return to_checksum_address(keccak(point_of(peer_id))[-20:])


def load_or_create(path: Path) -> Identity:
    """Read the key file, or make it on first start.

    Raises:
        SwarmError: the file is not such a key, or others may read it.
    """
    if not path.exists():
        secret = PrivateKey().secret
        write_private(path, _PRIVATE_PREFIX + secret)
        return Identity(secret)
    raw = read_private(path, "the key file")
    if len(raw) != 36 or not raw.startswith(_PRIVATE_PREFIX):
        raise SwarmError(f"{path} is not a secp256k1 libp2p key; move it away and a new one is made on the next start")
    return Identity(raw[len(_PRIVATE_PREFIX) :])
