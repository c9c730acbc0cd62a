"""The registry's epochs seen from Python: who has a say, what was posted, and what to send.

Sending is left to whoever has a queue for it: the methods that change something return the transaction.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from swarm.chain.client import Transaction
from swarm.chain.registry import Registry
from swarm.identity.key import Identity, address_of, verify
from swarm.identity.typed import Types, typed_digest

_SETTLEMENT: Types = {
    "Settlement": [
        {"name": "epoch", "type": "uint64"},
        {"name": "root", "type": "bytes32"},
        {"name": "dataHash", "type": "bytes32"},
        {"name": "totalPoints", "type": "uint256"},
    ]
}
_STATES = ("none", "pending", "final", "frozen")


@dataclass(frozen=True)
class Outcome:
    """What an epoch came to, as peers sign it: the root of the points, the hash of what they follow from, their sum."""

    root: bytes
    data_hash: bytes
    total: int
    """In millionths of a point."""


@dataclass(frozen=True)
class Settlement:
    """A settlement on the chain."""

    epoch: int
    outcome: Outcome
    posted_at: int
    """Unix seconds."""
    frozen: bool
    previous: int | None
    """The epoch of the last settlement before it that was not frozen then."""


@dataclass(frozen=True)
class Attestation:
    """What one peer has signed for an epoch; 65 bytes r, s, v with v 27 or 28."""

    peer_id: str
    outcome: Outcome
    signature: bytes


class Settlements:
    """The epochs of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._domain = registry.domain

    def active(self, epoch: int, peer_ids: Collection[str]) -> list[str]:
        """Those of some peers that have a say about an epoch."""
        answers = self._registry.views([("isActive", address_of(peer), epoch) for peer in peer_ids])
        return [peer for peer, answer in zip(peer_ids, answers, strict=True) if answer]

    def quorum(self, epoch: int) -> int:
        """How many signatures the settlement of an epoch needs."""
        return self._registry.view("quorum", epoch)

    def active_count(self, epoch: int) -> int:
        """How many peers have a say about an epoch."""
        return self._registry.view("activeCount", epoch)

    def of(self, epoch: int) -> Settlement | None:
        """The settlement of an epoch, where one was posted."""
        root, data_hash, total, posted_at, previous_end, frozen = self._registry.view("settlement", epoch)
        if posted_at == 0:
            return None
        return Settlement(
            epoch, Outcome(root, data_hash, total), posted_at, frozen, previous_end - 1 if previous_end else None
        )

    def before(self, epoch: int) -> Settlement | None:
        """The last settlement of an earlier epoch that is not frozen: the one on which the next stands."""
        last: int | None = self._registry.view("firstOpenEpoch") - 1
        while last is not None and last >= 0:
            posted = self.of(last)
            if posted is None:
                return None
            if not posted.frozen and posted.epoch < epoch:
                return posted
            last = posted.previous
        return None

    def state(self, epoch: int) -> str:
        """none, pending, final or frozen."""
        return _STATES[self._registry.view("status", epoch)]

    def sign(self, identity: Identity, epoch: int, outcome: Outcome) -> Attestation:
        """A peer's vote for the outcome of an epoch. It must never give two."""
        signature = identity.sign_typed_data(self._domain, _SETTLEMENT, _message(epoch, outcome))
        return Attestation(identity.peer_id, outcome, signature)

    def is_signed(self, epoch: int, given: Attestation) -> bool:
        """Whether an attestation is by the peer that it names."""
        if len(given.signature) != 65 or given.signature[64] not in (27, 28):
            return False
        digest = typed_digest(self._domain, _SETTLEMENT, _message(epoch, given.outcome))
        return verify(given.peer_id, digest, given.signature[:64] + bytes([given.signature[64] - 27]))

    def post(self, epoch: int, votes: Collection[Attestation]) -> Transaction:
        """Puts on the chain what a quorum has signed; all votes are for the same outcome."""
        ordered = _by_account(votes)
        outcome = ordered[0].outcome
        signatures = [vote.signature for vote in ordered]
        return self._registry.transaction(
            "postSettlement", epoch, outcome.root, outcome.data_hash, outcome.total, signatures
        )

    def freeze_by_dissent(self, epoch: int, votes: Collection[Attestation]) -> Transaction:
        """Freezes what is posted, by the votes of a blocking minority for something else."""
        given = [
            (vote.outcome.root, vote.outcome.data_hash, vote.outcome.total, vote.signature)
            for vote in _by_account(votes)
        ]
        return self._registry.transaction("freezeByDissent", epoch, given)

    def freeze(self, epoch: int) -> Transaction:
        """Freezes what is posted, sent by the guardian."""
        return self._registry.transaction("freeze", epoch)

    def check_in(self) -> Transaction:
        """Keeps the sender active for this epoch and the next three."""
        return self._registry.transaction("checkIn")


def _message(epoch: int, outcome: Outcome) -> dict[str, object]:
    return {
        "epoch": epoch,
        "root": outcome.root,
        "dataHash": outcome.data_hash,
        "totalPoints": outcome.total,
    }


def _by_account(votes: Collection[Attestation]) -> Sequence[Attestation]:
    return sorted(votes, key=lambda vote: int(address_of(vote.peer_id), 16))
