"""swarm claim: from the settled points of peers to their pay."""

import argparse
from dataclasses import asdict

from swarm.chain.claims import MAX_CLAIMS, Claim, Claims, Standing
from swarm.chain.client import Transaction
from swarm.chain.registry import Registry
from swarm.chain.settlements import Settlements
from swarm.errors import SwarmError
from swarm.identity.account import Account
from swarm.identity.key import address_of
from swarm.onchain.place import identity_of, registry_of, statement_of, wallet_of
from swarm.onchain.session import Session
from swarm.settlement.merkle import MerkleTree

_MILLION = 10**6


def claim(options: argparse.Namespace, session: Session) -> None:
    """For the peer of a home, for another account, or for all; whoever sends it, the pay goes to the owners."""
    registry = registry_of(options)
    claims = Claims(registry)
    identity = identity_of(options.home)
    epoch = claims.latest_final()
    if epoch is None:
        raise SwarmError(
            "nothing can be claimed yet: no settlement of this swarm is final, which one is "
            f"{registry.terms().challenge_seconds} s after it was posted; try again then"
        )
    points = _points(options, registry, epoch)
    if not options.all and (options.account or identity.address) not in points:
        raise SwarmError(
            f"the account {options.account or identity.address} has no points in epoch {epoch}, the last final one; "
            "wait for a later one, or name another with --account"
        )
    accounts = list(points) if options.all else [options.account or identity.address]
    before = dict(zip(accounts, claims.standings(accounts), strict=True))
    steps = _steps(claims, epoch, points, before)
    if not steps:
        session.note(f"nothing to claim up to epoch {epoch}, the last final one", epoch=epoch)
        return
    payer: Account = wallet_of(options) if options.keystore else identity
    told: dict[str, object] = {}
    for transaction, concerned in steps:
        if session.perform(registry.chain, payer, transaction):
            after = claims.standings(concerned)
            for account, now in zip(concerned, after, strict=True):
                told[account] = asdict(now)
                session.note(_sentence(account, before[account], now, registry))
    session.note(f"epoch {epoch} is the last final one", epoch=epoch, accounts=told)


def _points(options: argparse.Namespace, registry: Registry, epoch: int) -> dict[str, int]:
    """What a settlement says every account has, from the statement that the peer keeps."""
    from swarm.settlement.documents import Statement, decode  # takes seconds, as it needs the recipes

    settlement = Settlements(registry).of(epoch)
    assert settlement is not None  # it is final
    name = settlement.outcome.data_hash.hex()
    blob = statement_of(options.home, name)
    if blob is None:
        raise SwarmError(
            f"the home {options.home} has no statement of epoch {epoch} (data hash {name[:12]}); let its peer run "
            "until it has fetched it, or claim from the home of another peer with --account"
        )
    points = {address_of(peer): value for peer, value in decode(Statement, blob).points.items()}
    if MerkleTree(points).root != settlement.outcome.root:
        raise SwarmError(
            f"the settlement of epoch {epoch} has another root than its own statement, so nothing can be proved from "
            "it; wait for the next one"
        )
    return points


def _steps(
    claims: Claims, epoch: int, points: dict[str, int], before: dict[str, Standing]
) -> list[tuple[Transaction, list[str]]]:
    """The transactions, each with the accounts that it concerns."""
    tree = MerkleTree(points)
    new = [
        Claim(account, points[account], tree.proof(account))
        for account, standing in before.items()
        if points[account] > standing.settled
    ]
    if len(before) > 1:
        batches = [new[first : first + MAX_CLAIMS] for first in range(0, len(new), MAX_CLAIMS)]
        return [(claims.claim_many(epoch, batch), [each.account for each in batch]) for batch in batches]
    if new:
        return [(claims.claim(epoch, new[0]), [new[0].account])]
    account, standing = next(iter(before.items()))
    if standing.owed and claims.pool_left():
        return [(claims.pay_owed(account), [account])]
    return []


def _sentence(account: str, before: Standing, now: Standing, registry: Registry) -> str:
    settled = (
        f"{account} has {_points_text(now.settled)} settled points, {_points_text(now.settled - before.settled)} new"
    )
    terms = registry.terms()
    if not terms.tokens_per_point:
        return f"{settled}; this swarm has no reward pool"
    owed = f", {now.owed} are still owed" if now.owed else ""
    return f"{settled}; {now.paid - before.paid} units of {terms.reward_token} were paid to {now.payee}{owed}"


def _points_text(millionths: int) -> str:
    return f"{millionths // _MILLION}.{millionths % _MILLION:06d}".rstrip("0").rstrip(".")
