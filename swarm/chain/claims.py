"""From settled epochs to pay, as the registry keeps it. Points are in millionths, pay in units of the reward token."""

from collections.abc import Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from swarm.chain.client import Transaction
from swarm.chain.registry import NO_ADDRESS, Registry

MAX_CLAIMS = 64
"""In one transaction."""
_MILLION = 10**6


@dataclass(frozen=True)
class Standing:
    """What an account has: its settled points, what was paid for them and to whom pay goes, what is still owed."""

    settled: int
    paid: int
    owed: int
    payee: str


@dataclass(frozen=True)
class Claim:
    """The cumulative points of an account, with the way from them to the root of an epoch."""

    account: str
    points: int
    proof: Sequence[bytes]


class Claims:
    """The points and pay of one registry's accounts."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def latest_final(self) -> int | None:
        """The last epoch that can be claimed from."""
        found, epoch = self._registry.view("latestFinal")
        return epoch if found else None

    def standings(self, accounts: Sequence[str]) -> list[Standing]:
        """How accounts stand now."""
        tokens_per_point = self._registry.terms().tokens_per_point
        functions = ("settledPoints", "owed", "ownerOf")
        answers = self._registry.views([(function, account) for account in accounts for function in functions])
        standings = []
        for account, (settled, owed, owner) in zip(accounts, zip(*[iter(answers)] * 3, strict=True), strict=True):
            earned = settled * tokens_per_point // _MILLION
            payee = account if owner == NO_ADDRESS else to_checksum_address(owner)
            standings.append(Standing(settled, earned - owed, owed, payee))
        return standings

    def pool_left(self) -> int:
        """What the pool can still pay."""
        funded, paid = self._registry.view("pool")
        return funded - paid

    def claim(self, epoch: int, given: Claim) -> Transaction:
        """Settles an account's points and pays for them, whoever sends it."""
        return self._registry.transaction("claim", epoch, given.account, given.points, given.proof)

    def claim_many(self, epoch: int, given: Sequence[Claim]) -> Transaction:
        """The same for up to 64 accounts; those that are settled meanwhile are skipped."""
        claims = [(each.account, each.points, each.proof) for each in given]
        return self._registry.transaction("claimMany", epoch, claims)

    def pay_owed(self, account: str) -> Transaction:
        """Pays what the pool did not hold when the account's points were settled."""
        return self._registry.transaction("payOwed", account)
