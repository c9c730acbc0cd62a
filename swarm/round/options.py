"""What a person may choose about a peer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swarm.network.invite import Invite
from swarm.recipe.schema import Recipe


@dataclass(frozen=True)
class Options:
    home: Path
    invite: Invite | None = None
    recipe: Recipe | None = None
    """None: the swarm's, or for a new swarm the default one."""
    model: str | None = None
    """In place of the recipe's: a path or a hub id."""
    rounds: int | None = None
    """How many rounds to play in this run; None: until it is stopped."""
    name: str | None = None
    rpc: str | None = None
    contract: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    chain_port: int = 0
    announce_host: str | None = None
    announce: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    device: str | None = None
    threads: int | None = None
    sampler: Literal["local", "vllm"] = "local"
    openings: Path | None = None
    """Where this peer is the recipe's author: the file with the sealed answers, which it opens as they are due."""
    wait_for: int = 1
    """Peers, this one included, that should be here before the first round starts."""
    practice: bool = True
    """Whether the model works for its own next update while this peer waits for others."""
    twin: float | None = None
    """Share of this peer's work that its solo twin may take; None: a little where the trained weights are few."""
