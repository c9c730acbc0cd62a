import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm.chain.client import Chain
from swarm.chain.launch import RunningNode, start_node
from swarm.chain.registry import Registry, Terms, deploy
from swarm.identity.key import Identity
from tests.foundry.anvil import Anvil, AnvilChain

RECIPE_HASH = b"\x11" * 32


@pytest.fixture(scope="session")
def embedded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="session")
def embedded(embedded_home: Path) -> Iterator[RunningNode]:
    running = start_node(embedded_home)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def shared_anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    running = Anvil(tmp_path_factory.mktemp("anvil"))
    yield running
    running.stop()


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[Anvil]:
    """A node of the test's own, to be killed, turned back and lied with."""
    running = Anvil(tmp_path / "anvil")
    yield running
    running.stop()


@pytest.fixture(scope="session", params=["embedded", "shared_anvil"])
def node(request: pytest.FixtureRequest) -> RunningNode | Anvil:
    """Whatever holds on one chain holds on the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def chain(node: RunningNode | Anvil) -> Chain:
    kind = AnvilChain if isinstance(node, Anvil) else Chain
    return kind(node.url, expected_chain_id=node.chain_id)


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
