"""What an epoch came to, as its statement says; needs no network."""

from dataclasses import dataclass
from hashlib import sha256

from swarm.chain.settlements import Outcome
from swarm.identity.key import address_of
from swarm.settlement.documents import Statement
from swarm.settlement.merkle import MerkleTree


@dataclass(frozen=True)
class Result:
    """What an epoch came to, with the statement that shows it."""

    outcome: Outcome
    statement: Statement
    blob: bytes

    @classmethod
    def of(cls, statement: Statement, blob: bytes) -> "Result":
        """`blob`: the statement's bytes as they were published."""
        tree = MerkleTree({address_of(peer): value for peer, value in statement.points.items()})
        outcome = Outcome(tree.root, sha256(blob).digest(), sum(statement.points.values()))
        return cls(outcome, statement, blob)
