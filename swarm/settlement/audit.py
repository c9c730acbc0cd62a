"""swarm audit EPOCH: recompute an epoch from the records of a home, and compare it with the chain."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from swarm.chain.client import Chain
from swarm.chain.registry import Registry
from swarm.chain.settlements import Settlements
from swarm.errors import SwarmError
from swarm.identity.names import name_of
from swarm.journal.journal import Journal
from swarm.recipe.load import parse_recipe
from swarm.round.clock import Clock
from swarm.round.owners import owners_of
from swarm.settlement.compute import RecordMissing, StatementRefused
from swarm.settlement.documents import Statement
from swarm.settlement.epochs import Epochs
from swarm.settlement.papers import Papers
from swarm.settlement.recomputation import Recomputation
from swarm.settlement.seeds import Seeds


@dataclass(frozen=True)
class Finding:
    """What an audit found."""

    epoch: int
    state: str
    """Of the settlement on the chain: pending, final or frozen."""
    root: str
    data_hash: str
    agrees: bool
    why: str
    """One sentence."""
    records: int
    rounds: int
    points: dict[str, float]
    """Cumulative, by peer id, as the statement has them."""


def audit(home: Path, epoch: int, rpc: str | None = None) -> Finding:
    """Recompute a settlement that is on the chain from what a peer's home has kept.

    Raises:
        SwarmError: the home is none or lacks a record, the chain cannot be reached, or the epoch is not on it.
    """
    file = home.expanduser() / "journal.sqlite"
    if not file.is_file():
        raise SwarmError(f"{home} is no peer's home: it has no journal; name one with --home")
    journal = Journal(file)
    try:
        contract, url, stored = journal.get("contract"), rpc or journal.get("rpc"), journal.get("recipe")
        if contract is None or url is None or stored is None:
            raise SwarmError(f"the peer of {home} has not joined a swarm yet, so there is nothing to audit")
        chain = Chain(url, expected_chain_id=int(journal.get("chain_id") or 0) or None)
        registry = Registry(chain, contract)
        terms = registry.terms()
        assert terms.epoch_seconds is not None, "a registry always has one"
        recipe = parse_recipe(stored.encode())
        swarm = f"{chain.chain_id}:{registry.address}"
        clock = Clock(terms.genesis, recipe.timing)
        settlements = Settlements(registry)
        papers = Papers(None, journal, swarm, fetch_s=0)
        posted = settlements.of(epoch)
        if posted is None:
            before = settlements.before(epoch)
            last = f"the last one before it is that of epoch {before.epoch}" if before else "there is none before it"
            raise SwarmError(f"no settlement of epoch {epoch} is on the chain; {last}")
        recomputation = Recomputation(
            swarm=swarm,
            recipe=recipe,
            epochs=Epochs(clock, terms.epoch_seconds),
            journal=journal,
            papers=papers,
            chain=settlements,
            seed_of=Seeds(chain, swarm, clock, journal).of,
            owners=owners_of(registry, clock),
        )
        statement: Statement | None = None
        try:
            statement = recomputation.settled(posted)
            result = recomputation.check(papers.settled(posted.outcome.data_hash.hex()), recomputation.basis(epoch), 1)
            agrees = result.outcome == posted.outcome
            why = "the records give the same" if agrees else "its root is not that of the points in its statement"
        except RecordMissing as error:
            raise SwarmError(f"whether epoch {epoch} holds cannot be told in {home}: {error}") from error
        except StatementRefused as error:
            agrees, why = False, str(error)
        return Finding(
            epoch=epoch,
            state=settlements.state(epoch),
            root=posted.outcome.root.hex(),
            data_hash=posted.outcome.data_hash.hex(),
            agrees=agrees,
            why=why,
            records=len(statement.records) if statement else 0,
            rounds=len({record.round for record in statement.records}) if statement else 0,
            points={peer: value / 1e6 for peer, value in statement.points.items()} if statement else {},
        )
    finally:
        journal.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 where records and chain agree, 1 where they do not, 2 where it cannot be told."""
    p = argparse.ArgumentParser(prog="swarm audit", description=__doc__)
    p.add_argument("epoch", type=int, help="which epoch; they are counted from 0")
    p.add_argument("--home", type=Path, required=True, help="a peer's folder; it may be running")
    p.add_argument("--rpc", help="another JSON-RPC url of the swarm's chain than the peer's")
    p.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = p.parse_args(arguments)
    try:
        found = audit(options.home, options.epoch, options.rpc)
    except SwarmError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(asdict(found)))
    else:
        print(f"epoch {found.epoch}: {found.state} on the chain, root {found.root}")
        print(f"  {found.records} records of {found.rounds} rounds; statement {found.data_hash}")
        for peer, points in sorted(found.points.items(), key=lambda entry: -entry[1]):
            print(f"  {name_of(peer):<16} {points:12.3f} points  {peer}")
        print(f"{'agrees' if found.agrees else 'DIFFERS'}: {found.why}")
    return 0 if found.agrees else 1
