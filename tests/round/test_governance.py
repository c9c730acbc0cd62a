"""A recipe that governance changes, on the embedded chain."""

import time

import pytest

from swarm.chain.client import Chain
from swarm.chain.launch import start_node
from swarm.chain.registry import Terms, deploy
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.identity.key import Identity
from swarm.round.governance import RecipeWatch

OLD, NEW = b"\x11" * 32, b"\x22" * 32


@pytest.fixture
def node(tmp_path):
    running = start_node(tmp_path / "chain")
    yield running
    running.stop()


def test_peers_are_told_of_another_recipe_and_end_when_it_applies(node, monkeypatch):
    monkeypatch.setattr("swarm.round.governance.ASK_EVERY_S", 0.0)
    chain, founder = Chain(node.url), Identity(b"\x01" * 32)
    chain.faucet(founder.address)
    registry = deploy(chain, founder, Terms(OLD, int(time.time()), 60))
    said = []
    watch = RecipeWatch(registry, OLD, Emitter(said.append, "me"))
    watch.look()
    assert said == []
    chain.send(founder, registry.transaction("announceRecipe", NEW))
    watch.look()
    watch.look()
    assert [event["event"] for event in said] == ["recipe_change"], "told once"
    assert NEW.hex()[:12] in said[0]["what"]
    chain.send(founder, registry.transaction("applyRecipe"))
    with pytest.raises(SwarmError, match="start again with --recipe and the new file"):
        watch.look()


def test_a_chain_that_is_away_changes_nothing(node, monkeypatch):
    monkeypatch.setattr("swarm.round.governance.ASK_EVERY_S", 0.0)
    chain, founder = Chain(node.url, timeout_s=1), Identity(b"\x01" * 32)
    chain.faucet(founder.address)
    registry = deploy(chain, founder, Terms(OLD, int(time.time()), 60))
    node.stop()
    RecipeWatch(registry, OLD, Emitter(lambda event: None, "me")).look()
