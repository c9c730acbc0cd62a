"""The registry contract seen from Python: one swarm's parameters and its registered peers."""

from dataclasses import dataclass
from typing import Any

from eth_utils.address import is_address, to_checksum_address

from swarm.chain.abi import call_data, creation_code, error_of, results
from swarm.chain.client import Chain, InsufficientFunds, Receipt, Reverted, Transaction
from swarm.errors import SwarmError
from swarm.identity.key import Identity, address_of, peer_id_of, point_of

VERSION = "rl-swarm registry 1"
PAGE = 256  # the most that the contract gives at once

_SENTENCES = {
    "RecipeHashIsZero": "the recipe hash is zero",
    "RoundSecondsIsZero": "the round length is zero seconds; it must be at least one",
    "PointNotOnCurve": "the public key is not a point of secp256k1",
    "SenderIsNotKey": "the transaction was sent by {0}, but the key belongs to {1}; a peer registers with its own key",
    "AlreadyRegistered": "the peer with the account {0} is registered already",
}


@dataclass(frozen=True)
class Parameters:
    """What a swarm was founded with; `genesis` in unix seconds."""

    recipe_hash: bytes
    genesis: int
    round_seconds: int


class RegistryError(SwarmError):
    """The registry refused; `name` is the contract's own name of the error."""

    def __init__(self, sentence: str, name: str) -> None:
        super().__init__(sentence)
        self.name = name


def deploy(chain: Chain, identity: Identity, recipe_hash: bytes, genesis: int, round_seconds: int) -> "Registry":
    """Found a swarm: put a new registry on the chain, paid by `identity` (with the faucet's help where there is one).

    Raises:
        SwarmError: the parameters do not fit, the account cannot pay, or the chain gives no answer.
    """
    if len(recipe_hash) != 32:
        raise ValueError(f"a recipe hash has 32 bytes, not {len(recipe_hash)}")
    if not (0 <= genesis < 2**64 and 0 <= round_seconds < 2**32):
        raise SwarmError(f"a swarm cannot start at {genesis} with rounds of {round_seconds} s: out of range")
    receipt = _send(chain, identity, Transaction(None, creation_code(recipe_hash, genesis, round_seconds)))
    if receipt.contract_address is None:
        raise SwarmError("the chain mined the new registry but named no address for it; try again with another RPC url")
    return Registry(chain, receipt.contract_address)


class Registry:
    """The registry at an address, checked when first made.

    Raises:
        SwarmError: there is no such contract at the address, or one of another version.
    """

    def __init__(self, chain: Chain, address: str) -> None:
        if not is_address(address):
            raise SwarmError(f"{address!r} is not a contract's address: it has 0x and 40 hexadecimal digits")
        self.chain = chain
        self.address = address = to_checksum_address(address)
        self._registered: set[str] = set()  # a registration is never undone: what was true once stays true
        if not chain.code(address):
            raise SwarmError(f"there is no contract at {address} on {chain}; check the invite and the RPC url")
        try:
            version = results("version", chain.call(address, call_data("version")))[0]
        except (ValueError, Reverted):
            version = None
        if version != VERSION:
            found = repr(version[:80]) if version else "no swarm registry"
            raise SwarmError(
                f"the contract at {address} is {found}, and this program speaks {VERSION!r}; "
                "check the address, or update"
            )

    def __repr__(self) -> str:
        return f"Registry({self.address} on {self.chain})"

    def parameters(self) -> Parameters:
        """What the swarm was founded with."""
        return Parameters(self._view("recipeHash"), self._view("genesis"), self._view("roundSeconds"))

    def register(self, identity: Identity) -> Receipt | None:
        """Make `identity` a peer; None where it is one already. If it cannot pay, a faucet is asked.

        Raises:
            SwarmError: it cannot pay, or the chain gives no answer.
        """
        if self.is_registered(identity.peer_id):
            return None
        point = point_of(identity.peer_id)
        try:
            receipt = _send(
                self.chain, identity, Transaction(self.address, call_data("register", point[:32], point[32:]))
            )
        except RegistryError as error:
            if error.name != "AlreadyRegistered":  # it was, a moment ago, by another process with this key
                raise
            receipt = None
        self._registered.add(identity.peer_id)
        return receipt

    def is_registered(self, peer_id: str) -> bool:
        """Whether the key of this peer is registered; False for what is no peer id. A yes is remembered."""
        if peer_id in self._registered:
            return True
        try:
            account = address_of(peer_id)
        except ValueError:
            return False
        if self._view("isRegistered", account):
            self._registered.add(peer_id)
            return True
        return False

    def peer_count(self) -> int:
        """How many peers are registered."""
        return self._view("peerCount")

    def peers(self) -> list[str]:
        """The ids of all peers, in the order of registration."""
        peer_ids: list[str] = []
        while True:
            page = self._view("peers", len(peer_ids), PAGE)
            peer_ids += [peer_id_of(bytes([prefix]) + x) for x, prefix in page]
            if len(page) < PAGE:
                self._registered.update(peer_ids)
                return peer_ids

    def _view(self, function: str, *arguments: object) -> Any:
        answer = self.chain.call(self.address, call_data(function, *arguments))
        try:
            return results(function, answer)[0]
        except ValueError as error:
            raise SwarmError(f"the contract at {self.address} is not a swarm registry: {error}") from error


def _send(chain: Chain, identity: Identity, transaction: Transaction) -> Receipt:
    try:
        try:
            return chain.send(identity, transaction)
        except InsufficientFunds:
            if not chain.faucet(identity.address):
                raise
            return chain.send(identity, transaction)
    except Reverted as error:
        raise _explained(error) from error


def _explained(error: Reverted) -> SwarmError:
    name, arguments = error_of(error.data)
    if not name:
        return error
    return RegistryError(f"the swarm registry refuses: {_SENTENCES[name].format(*arguments)}", name)
