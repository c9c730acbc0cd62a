"""Which swarm a peer belongs to: one that it founds, one that an invite names, or the one its home remembers."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from swarm.chain.client import Chain
from swarm.chain.launch import start_node
from swarm.chain.registry import Registry, Terms, deploy
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import Identity
from swarm.journal.journal import Journal
from swarm.network.blobs import BlobRef, BlobUnavailable
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.recipe import catalogue
from swarm.recipe.load import parse_recipe
from swarm.recipe.schema import Recipe
from swarm.round.peer_cache import PeerCache
from swarm.round.presence import SLOT
from swarm.round.records import LiveNote
from swarm.round.wire import RecordRefused, read_note

FIND_RECIPE_S = 60.0


@dataclass(frozen=True)
class Membership:
    """A swarm as a peer is about to enter it."""

    swarm: str
    """Its id: chain id and contract address."""
    chain: Chain
    registry: Registry
    recipe: Recipe | None
    """None where this machine does not have it yet."""
    bootstrap: tuple[str, ...]
    """Addresses in the invite."""
    fallbacks: tuple[tuple[str, ...], ...]
    """Addresses in the contract, and those of peers that were met before, for when the invite's do not answer."""
    founded: bool


def enter(
    stack: ExitStack,
    *,
    home: Path,
    journal: Journal,
    identity: Identity,
    invite: Invite | None,
    recipe: Recipe | None,
    rpc: str | None,
    contract: str | None,
    host: str,
    chain_port: int,
    emit: Emitter,
) -> Membership:
    """Find or found the swarm.

    A development chain that is started here ends with `stack`.

    Raises:
        SwarmError: the home, the invite and the recipe do not belong together, or the chain cannot be reached.
    """
    if contract is not None and rpc is None and invite is None:
        raise SwarmError("--contract needs the chain that it is on; give its JSON-RPC url with --rpc")
    remembered = journal.get("contract")
    remembered_chain = journal.get("chain_id")
    if invite is not None:
        chain = Chain(rpc or invite.chain_rpc, expected_chain_id=invite.chain_id)
        registry = _registry(chain, invite.contract, remembered, remembered_chain, home)
        founded = False
    else:
        contract = contract or remembered
        url = rpc or (None if _has_own_chain(home) or not remembered else journal.get("rpc"))
        if url is None:
            emit("starting", what="the development chain", expect_s=5)
            node = start_node(home / "chain", host, chain_port)
            stack.callback(node.stop)
            url = node.url
        chain = Chain(url, expected_chain_id=int(remembered_chain) if remembered_chain else None)
        if contract is not None:
            registry = _registry(chain, contract, remembered, remembered_chain, home)
            founded = False
        else:
            recipe = recipe or catalogue.find(catalogue.DEFAULT)
            emit("starting", what="the registry contract", expect_s=2)
            registry = deploy(chain, identity, terms_of(recipe))
            founded = True
    terms = registry.terms()
    on_chain = terms.recipe_hash
    if recipe is not None and recipe.hash() != on_chain:
        raise SwarmError(
            f"this swarm runs another recipe than {recipe.name!r} as this machine has it "
            f"(hash {on_chain.hex()[:12]} on the chain, {recipe.hash().hex()[:12]} here); "
            f"join without --recipe, or found a swarm of your own in another --home"
        )
    journal.put("contract", registry.address)
    journal.put("chain_id", str(chain.chain_id))
    journal.put("rpc", chain.url)
    swarm = f"{chain.chain_id}:{registry.address}"
    fallbacks = (terms.bootstrap, tuple(PeerCache(journal).addresses()))
    return Membership(swarm, chain, registry, recipe, invite.bootstrap if invite else (), fallbacks, founded)


def terms_of(recipe: Recipe) -> Terms:
    """The terms of a swarm that begins now, without tokens."""
    return Terms(
        recipe.hash(),
        int(time.time()),
        recipe.timing.round_s,
        epoch_seconds=recipe.settlement.epoch_rounds * recipe.timing.round_s,
        challenge_seconds=recipe.settlement.challenge_s,
    )


def find_recipe(membership: Membership, network: Network, journal: Journal, timeout_s: float = FIND_RECIPE_S) -> Recipe:
    """The swarm's recipe, from the journal or from any peer; its hash must be the one on the chain.

    Raises:
        SwarmError: nobody gives it in time.
    """
    wanted = membership.registry.terms().recipe_hash
    stored = journal.get("recipe")
    if stored is not None:
        recipe = parse_recipe(stored.encode())
        if recipe.hash() == wanted:
            return recipe
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        providers: dict[int, list[str]] = {}
        for peer_id, announcement in network.read(SLOT, timeout_s=min(10.0, left)).items():
            try:
                providers.setdefault(read_note(LiveNote, announcement.value).recipe_bytes, []).append(peer_id)
            except RecordRefused:
                continue
        for size, peers in sorted(providers.items(), key=lambda entry: -len(entry[1])):
            left = deadline - time.monotonic()
            if left <= 0:  # peers may claim as many sizes as they are
                break
            try:
                return parse_recipe(network.fetch(BlobRef(wanted.hex(), size), peers, timeout_s=min(20.0, left)))
            except (BlobUnavailable, ValueError):
                continue
        time.sleep(0.5)
    raise SwarmError(
        f"no peer of the swarm answered within {timeout_s:.0f} s, so its recipe could not be fetched; "
        f"check that one of its peers runs and can be reached, and ask it for a fresh invite"
    )


def _registry(
    chain: Chain, contract: str, remembered: str | None, remembered_chain: str | None, home: Path
) -> Registry:
    if remembered is not None and (remembered.lower(), remembered_chain) != (contract.lower(), str(chain.chain_id)):
        raise SwarmError(
            f"the home {home} belongs to the swarm {remembered_chain}:{remembered}, "
            f"not to {chain.chain_id}:{contract}; name another folder with --home"
        )
    return Registry(chain, contract)


def _has_own_chain(home: Path) -> bool:
    return (home / "chain").is_dir()
