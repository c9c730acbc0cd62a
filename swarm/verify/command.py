"""swarm verify FILE: check a round, or one peer's rollouts, that `swarm export` wrote.

Signatures and commitments, who was drawn to judge, openings, rewards; with --weights also the sampling itself. The seed
and the owners are the chain's word: --rpc compares them with it.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from swarm.chain.client import Chain
from swarm.chain.registry import Registry
from swarm.errors import SwarmError
from swarm.round.clock import Clock
from swarm.round.owners import owners_of
from swarm.round.seed import chain_seed, foreseeable_seed
from swarm.verify.checks import Check, Verification
from swarm.verify.document import RoundFile

_SIGNS = {"holds": "ok", "fails": "FAILS", "unknown": "?"}


def verify(
    path: Path,
    *,
    rpc: str | None = None,
    weights: bool = False,
    model: str | None = None,
    checkpoint: Path | None = None,
) -> list[Check]:
    """All checks of a file.

    Args:
        weights: replay by the recipe's model, or `model`, with the weights of `checkpoint` where one is given.

    Raises:
        SwarmError: the file, the model or the chain cannot be read.
    """
    file = RoundFile.read(path)
    verification = Verification(file)
    replay = None
    if weights or model or checkpoint:
        from swarm.verify.replaying import Replayer  # imported here: torch takes seconds

        replay = Replayer(verification.recipe, verification.seed, model, checkpoint)
    checks = verification.run(replay)
    return [*_on_chain(file, verification, rpc), *checks]


def _on_chain(file: RoundFile, verification: Verification, rpc: str | None) -> list[Check]:
    """Whether recipe, seed, owners and membership are those of the chain."""
    if rpc is None:
        return [Check("recipe, seed, owners, membership", "unknown", "no chain was asked; name one with --rpc")]
    chain_id, _, contract = file.swarm.partition(":")
    registry = Registry(Chain(rpc, expected_chain_id=int(chain_id) if chain_id.isdigit() else None), contract)
    terms = registry.terms()
    clock = Clock(terms.genesis, verification.recipe.timing)
    seed = chain_seed(registry.chain, file.swarm, clock, file.round)
    peers = sorted({record.author for record in file.records})
    strangers = [peer for peer in peers if not registry.is_registered(peer)]
    if seed is not None and seed != verification.seed and verification.seed == foreseeable_seed(file.swarm, file.round):
        why = "it was played without the chain, by a seed that could be foreseen"
    else:
        why = "that of the first block at or after the round's start"
    asked = [
        ("recipe", verification.recipe.hash() == terms.recipe_hash, "its hash is the one in the registry"),
        ("seed", seed == verification.seed, why),
        ("owners", dict(owners_of(registry, clock)(file.round, peers)) == file.owners, "as linked when it began"),
        ("membership", not strangers, f"{len(peers) - len(strangers)} of {len(peers)} authors are registered"),
    ]
    return [Check(what, "holds" if good else "fails", why) for what, good, why in asked]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 where nothing fails, 1 where something does, 2 where the file cannot be checked."""
    p = argparse.ArgumentParser(prog="swarm verify", description=__doc__.split("\n")[0] if __doc__ else None)
    p.add_argument("file", type=Path, metavar="FILE", help="as `swarm export` writes it")
    p.add_argument("--rpc", metavar="URL", help="JSON-RPC of the swarm's chain, for seed, owners and membership")
    p.add_argument("--weights", action="store_true", help="replay what the recipe's own model sampled")
    p.add_argument("--model", help="a path or hub id, in place of the recipe's model")
    p.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="weights to replay with, of a home")
    p.add_argument("--json", action="store_true", help="one JSON array instead of text")
    options = p.parse_args(arguments)
    try:
        checks = verify(
            options.file,
            rpc=options.rpc,
            weights=options.weights,
            model=options.model,
            checkpoint=options.checkpoint,
        )
    except SwarmError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(check) for check in checks]))
    else:
        for check in checks:
            print(f"{_SIGNS[check.state]:>5}  {check.what}: {check.why}")
        counts = Counter(check.state for check in checks)
        print(f"{counts['holds']} hold, {counts['fails']} fail, {counts['unknown']} cannot be told")
    return 1 if any(check.state == "fails" for check in checks) else 0
