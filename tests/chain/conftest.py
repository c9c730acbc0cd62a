import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm.chain.client import Chain
from swarm.chain.launch import RunningNode, start_node
from swarm.chain.registry import Registry, Terms, deploy
from swarm.identity.key import Identity

RECIPE_HASH = b"\x11" * 32


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    running = start_node(tmp_path_factory.mktemp("chain"))
    yield running
    running.stop()


@pytest.fixture
def chain(node: RunningNode) -> Chain:
    return Chain(node.url, expected_chain_id=node.chain_id)


@pytest.fixture
def new_identity() -> Callable[[], Identity]:
    return lambda: Identity(secrets.token_bytes(32))


@pytest.fixture
def founder(chain: Chain, new_identity: Callable[[], Identity]) -> Identity:
    identity = new_identity()
    assert chain.faucet(identity.address)
    return identity


@pytest.fixture
def registry(chain: Chain, founder: Identity) -> Registry:
    return deploy(chain, founder, Terms(RECIPE_HASH, genesis=1_800_000_000, round_seconds=60))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "chain"
