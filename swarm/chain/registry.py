"""The registry contract seen from Python: one swarm's terms and its registered peers."""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from eth_abi.exceptions import EncodingError
from eth_utils.address import is_address, to_checksum_address

from swarm.chain.abi import call_data, creation_code, error_of, results
from swarm.chain.client import Chain, ChainUnavailable, InsufficientFunds, Receipt, Reverted, Signer, Transaction
from swarm.errors import SwarmError
from swarm.identity.key import Identity, address_of, peer_id_of, point_of

VERSION = "rl-swarm registry 2"
NO_ADDRESS = "0x" + "00" * 20
REMEMBERED_S = 600.0
_RECIPE = 0  # of the contract's enum of changes
PAGE = 256  # the most that the contract gives at once

_SENTENCES = {
    # founding
    "TermIsZero": "the term {0} is zero; every swarm needs one that is not",
    "NoTokenAt": "there is no contract at {0}; check the address of the token",
    "TokenWithoutAmount": "a token and its amount belong together; with the token {0} the amount {1} does not fit",
    "TooManyAddresses": "there are {0} bootstrap addresses; give at most 16",
    "AddressLengthOutOfRange": "bootstrap address {0} has {1} bytes; give 1 to 200",
    # identity
    "PointNotOnCurve": "the public key is not a point of secp256k1",
    "SenderIsNotKey": "the transaction was sent by {0}, but the key belongs to {1}; a peer registers with its own key",
    "AlreadyRegistered": "the peer with the account {0} is registered already",
    "KeyRetired": "the key of {0} was replaced by another one and cannot come back; use the new key",
    "NotRegistered": "the account {0} is not a registered peer; register it first",
    "SignatureExpired": "the signature was good until {0} (unix seconds); sign again",
    "SignatureNotBy": "the signature is not by {0} for just this call, nonce, contract and chain; sign again",
    "OwnerIsZero": "the zero address cannot own a peer; name the owner's address",
    "AlreadyLinked": "the peer {0} is linked to {1} already; its owner has to unlink it first",
    "NotOwner": "{0} is not the owner of the peer {1}, which is {2}; send it with the owner's wallet",
    # activity and settlement
    "NotStaked": "the peer {0} has not staked what this swarm asks for; stake first",
    "EpochNotOver": "epoch {0} is not over, as this is epoch {1}; wait for its end",
    "EpochTooEarly": "epoch {0} can no longer be settled; settle epoch {1} or a later one",
    "AlreadyPosted": "this settlement of epoch {0} is posted already",
    "NotPending": "the settlement of epoch {0} is not within its challenge window, so nothing can be changed about it",
    "PointsFell": "the settlement has {0} points in all, fewer than the {1} of the one before; compute it again",
    "MalformedSignature": "signature {0} is not one of 65 bytes r, s, v with a low s and v of 27 or 28",
    "SignerNotActive": "signature {0} is by {1}, who is no active peer in epoch {2}, or it is for another settlement",
    "SignersNotAscending": "signature {0}, by {1}, is out of order; sort them by account, each once",
    "TooFewSignatures": "there are {0} signatures, and {1} are needed; collect more",
    "NotDissent": "attestation {0} is for the settlement that is posted; bring only others",
    # points and pay
    "NotFinal": "the settlement of epoch {0} is not final; use an earlier epoch, or wait for its challenge window",
    "ProofInvalid": "the proof does not show that {0} has {1} points; build it from the records of the settled epoch",
    "NothingToClaim": "nothing new can be claimed for {0}: {1} points are settled already",
    "PointsExceedTotal": "with this {0} points would be settled, more than the {1} of the epoch; use a later one",
    "TooManyClaims": "there are {0} claims; send at most 64 at once",
    "NoPool": "this swarm has no reward pool",
    "SafeERC20FailedOperation": "the token {0} refused the transfer; check balance and allowance",
    "ReentrancyGuardReentrantCall": "a token called back into the registry in the middle of a transfer",
    # stakes
    "NoStakes": "this swarm has no stakes",
    "NotStakeHolder": "{0} cannot ask this stake back; {1} can",
    "NothingStaked": "nothing is staked behind {0} that could be taken",
    "Unbonding": "the stake of {0} was asked back; it can be withdrawn from {1} on (unix seconds)",
    "NotUnbonding": "the stake of {0} was not asked back; request that first",
    "NotTwoStatements": "the two statements are the same, which is no offence",
    "NotOneSigner": "the two statements must have one signer, and here are {0} and {1}",
    "NotAFinalSlot": "the slot {0!r} may be written again; only answer, critique and revise of a round may not",
    "ECDSAInvalidSignature": "a signature belongs to no account",
    "ECDSAInvalidSignatureLength": "a signature has {0} bytes instead of 65",
    "ECDSAInvalidSignatureS": "a signature is in its second form, with a high s; give the first",
    # control
    "NotRoleHolder": "{0} may not do this; {1} may",
    "RolesNotSeparate": "{0} would be both governance and guardian; with a delay they must be two accounts",
    "NotAnnounced": "no such change is announced; announce it first",
    "TooEarly": "the change can be applied from {1} on (unix seconds); wait until then",
    "NotTheAnnouncedAddresses": "these are not the bootstrap addresses that were announced",
    "EnforcedPause": "the swarm is paused; wait until governance unpauses it",
    "ExpectedPause": "the swarm is not paused",
}


@dataclass(frozen=True)
class Terms:
    """What a swarm is founded with, field by field as in contracts/src/Terms.sol; `genesis` in unix seconds.

    None means, when founding: 60 rounds for `epoch_seconds`, and the founder for the two roles.
    """

    recipe_hash: bytes
    genesis: int
    round_seconds: int
    epoch_seconds: int | None = None
    challenge_seconds: int = 60
    delay_seconds: int = 0
    governance: str | None = None
    guardian: str | None = None
    reward_token: str = NO_ADDRESS
    tokens_per_point: int = 0
    stake_token: str = NO_ADDRESS
    stake_amount: int = 0
    unbonding_seconds: int = 0
    bootstrap: tuple[str, ...] = ()


class RegistryError(SwarmError):
    """The registry refused; `name` is the contract's own name of the error."""

    def __init__(self, sentence: str, name: str) -> None:
        super().__init__(sentence)
        self.name = name


def deploy(chain: Chain, identity: Identity, terms: Terms) -> "Registry":
    """Found a swarm: put a new registry on the chain, paid by `identity` (with the faucet's help where there is one).

    Raises:
        SwarmError: the terms do not fit, the account cannot pay, or the chain gives no answer.
    """
    return founded(chain, send(chain, identity, founding(terms, identity.address)))


def founding(terms: Terms, founder: str) -> Transaction:
    """What puts a new registry on a chain. Raises SwarmError where the terms are out of any range."""
    if len(terms.recipe_hash) != 32:
        raise ValueError(f"a recipe hash has 32 bytes, not {len(terms.recipe_hash)}")
    terms = replace(
        terms,
        epoch_seconds=60 * terms.round_seconds if terms.epoch_seconds is None else terms.epoch_seconds,
        governance=terms.governance or founder,
        guardian=terms.guardian or founder,
    )
    try:
        return Transaction(None, creation_code(astuple(terms)))
    except EncodingError as error:
        raise SwarmError(f"a swarm cannot have the terms {terms}: {error}") from error


def founded(chain: Chain, receipt: Receipt) -> "Registry":
    """The registry that a founding made."""
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
        self._registered: dict[str, float] = {}  # when it was last seen to be; monotonic seconds
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

    @property
    def domain(self) -> dict[str, Any]:
        """What makes an EIP-712 signature one for this contract on this chain."""
        return {
            "name": "SwarmRegistry",
            "version": "2",
            "chainId": self.chain.chain_id,
            "verifyingContract": self.address,
        }

    def terms(self) -> Terms:
        """The swarm's terms as they are now."""
        terms = Terms(*self.view("terms"))
        return replace(
            terms,
            governance=to_checksum_address(str(terms.governance)),
            guardian=to_checksum_address(str(terms.guardian)),
            reward_token=to_checksum_address(terms.reward_token),
            stake_token=to_checksum_address(terms.stake_token),
        )

    def recipe_change(self) -> tuple[bytes, tuple[bytes, int]]:
        """The hash of the recipe, and the announced one with the time from which it applies, unix seconds; 0: none."""
        current, (value, applies_at) = self.views([("recipeHash",), ("announced", _RECIPE)])
        return current, (value, applies_at)

    def register(self, identity: Identity) -> Receipt | None:
        """Make `identity` a peer; None where it is one already. If it cannot pay, a faucet is asked.

        Raises:
            SwarmError: it cannot pay, or the chain gives no answer.
        """
        if self.is_registered(identity.peer_id):
            return None
        try:
            receipt = send(self.chain, identity, self.registration(identity.peer_id))
        except RegistryError as error:
            if error.name != "AlreadyRegistered":  # it was, a moment ago, by another process with this key
                raise
            receipt = None
        self._note_registered(identity.peer_id)
        return receipt

    def registration(self, peer_id: str) -> Transaction:
        """Makes the sender, who is this peer, a peer of the swarm."""
        point = point_of(peer_id)
        return self.transaction("register", point[:32], point[32:])

    def transaction(self, function: str, *arguments: object) -> Transaction:
        """A call of a function that changes something."""
        return Transaction(self.address, call_data(function, *arguments))

    def is_registered(self, peer_id: str) -> bool:
        """Whether the key of this peer is registered; False for what is no peer id.

        A yes is remembered for ten minutes, though the key may be replaced, and longer while the chain is away.
        """
        seen = self._registered.get(peer_id)
        if seen is not None and time.monotonic() - seen < REMEMBERED_S:
            return True
        try:
            account = address_of(peer_id)
        except ValueError:
            return False
        try:
            registered = bool(self.view("isRegistered", account))
        except ChainUnavailable:
            if seen is None:
                raise
            return True
        if registered:
            self._note_registered(peer_id)
        else:
            self._registered.pop(peer_id, None)
        return registered

    def peer_count(self) -> int:
        """How many peers are registered."""
        return self.view("peerCount")

    def peers(self) -> list[str]:
        """The ids of all peers, in the order of registration."""
        peer_ids: list[str] = []
        while True:
            page = self.view("peers", len(peer_ids), PAGE)
            peer_ids += [peer_id_of(bytes([prefix]) + x) for x, prefix in page]
            if len(page) < PAGE:
                self._note_registered(*peer_ids)
                return peer_ids

    def _note_registered(self, *peer_ids: str) -> None:
        self._registered.update(dict.fromkeys(peer_ids, time.monotonic()))

    def view(self, function: str, *arguments: object) -> Any:
        """What a view function returns; a tuple where that is several values."""
        return self.views([(function, *arguments)])[0]

    def views(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What several calls of view functions return; each call is a name and its arguments."""
        answers = self.chain.call_all([(self.address, call_data(*call)) for call in calls])
        try:
            found = [results(call[0], answer) for call, answer in zip(calls, answers, strict=True)]
        except ValueError as error:
            raise SwarmError(f"the contract at {self.address} is not a swarm registry: {error}") from error
        return [values[0] if len(values) == 1 else values for values in found]


def send(chain: Chain, signer: Signer, transaction: Transaction) -> Receipt:
    """Send and wait until it is mined. If the account cannot pay, a faucet is asked.

    Raises:
        RegistryError: the registry refuses.
        SwarmError: the account cannot pay, or the chain gives no answer.
    """
    try:
        try:
            return chain.send(signer, transaction)
        except InsufficientFunds:
            if not chain.faucet(signer.address):
                raise
            return chain.send(signer, transaction)
    except Reverted as error:
        raise _explained(error) from error


def estimate(chain: Chain, address: str, transaction: Transaction) -> tuple[int, int]:
    """The most gas that a transaction of `address` takes, and the most wei that it costs. Nothing is sent.

    Raises:
        RegistryError: the registry would refuse.
        SwarmError: the chain gives no answer.
    """
    try:
        return chain.estimate(address, transaction)
    except Reverted as error:
        raise _explained(error) from error


def _explained(error: Reverted) -> SwarmError:
    name, arguments = error_of(error.data)
    if not name:
        return error
    return RegistryError(f"the swarm registry refuses: {_SENTENCES[name].format(*arguments)}", name)
