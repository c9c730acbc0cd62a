"""Swarms that settle their points on the chain, among them peers that lie about them."""

import json
import subprocess
import sys
from contextlib import ExitStack

import pytest
import yaml

from swarm.identity.key import load_or_create
from tests.foundry.anvil import Anvil, AnvilChain
from tests.swarm.processes import ROOT, PeerProcess

PEERS = 4
SETTLED_S = 150
"""For the first epoch: 20 s long, counted 10 s later, and the start of four peers before it."""


@pytest.fixture
def recipe(tmp_path):
    """The tiny recipe with little work, and epochs of two short rounds."""
    tiny = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text())
    tiny["timing"] = {"round_s": 10}
    tiny["settlement"] = {"epoch_rounds": 2, "challenge_s": 10}
    tiny["tasks"] |= {"shared": 2, "own": 4}
    path = tmp_path / "settling.yaml"
    path.write_text(yaml.safe_dump(tiny))
    return path


@pytest.fixture
def swarm(tmp_path, recipe):
    """Starts four peers, the first of which is honest and the guardian, and the last `liars` of which lie together."""
    started = []
    with ExitStack() as stack:

        def start(*arguments, liars=0):
            first = stack.enter_context(
                PeerProcess("--recipe", recipe, "--home", tmp_path / "0", "--wait-for", PEERS, *arguments)
            )
            invite = first.wait_for("invite", 120)["invite"]
            others = [
                stack.enter_context(
                    PeerProcess(
                        invite,
                        *("--home", tmp_path / str(number), "--wait-for", PEERS),
                        module="tests.swarm.lying_peer" if number >= PEERS - liars else "swarm.join",
                    )
                )
                for number in range(1, PEERS)
            ]
            started.extend([first, *others])
            return started

        yield start
        for peer in started:
            peer.process.terminate()


@pytest.fixture
def anvil(tmp_path):
    """A chain that knows nothing of us; the accounts of the peers have ether there."""
    running = Anvil(tmp_path / "anvil", "--block-time", "1")  # the seeds come from its blocks
    for number in range(PEERS):
        AnvilChain(running.url).faucet(load_or_create(tmp_path / str(number) / "identity.key").address)
    yield running
    running.stop()


def settled(peer, state, timeout_s=SETTLED_S, epoch=None):
    """The first settlement event of a state, with points in it."""
    return peer.wait_for(
        "settlement", timeout_s, lambda event: event["state"] == state and epoch in (None, event["epoch"])
    )


def command(*arguments):
    """`python -m swarm ... --json`: its status, what it told, and its errors."""
    process = subprocess.run(
        [sys.executable, "-m", "swarm", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    return process.returncode, json.loads(process.stdout or "null"), process.stderr


def audit(home, epoch):
    return command("audit", epoch, "--home", home)


def test_a_swarm_settles_by_itself_on_any_chain_and_one_liar_changes_nothing(swarm, tmp_path, anvil):
    peers = swarm("--rpc", anvil.url, liars=1)
    epoch = settled(peers[0], "final")["epoch"]
    honest = peers[:3]
    for peer in honest:
        settled(peer, "final", epoch=epoch)
        for event in peer.of("settlement"):
            assert event["state"] not in ("false", "frozen")
            # where the liar's turn to propose came first
            assert event["state"] != "refused" or "do not follow from the records" in event["what"]
    for number in (0, 2):
        status, found, errors = audit(tmp_path / str(number), epoch)
        assert status == 0 and found["agrees"] and found["state"] == "final", errors
        assert found["records"] > 0 and 0 < max(found["points"].values()) < 1000
    status, told, errors = command("claim", "--home", tmp_path / "1")
    assert status == 0, errors
    me = load_or_create(tmp_path / "1" / "identity.key")
    assert told["accounts"][me.address]["settled"] >= round(1e6 * found["points"][me.peer_id])


def test_a_false_settlement_by_more_than_half_is_frozen_and_everybody_is_told(swarm, tmp_path):
    peers = swarm(liars=3)
    false = settled(peers[0], "false")
    assert "the points of" in false["what"] and "do not follow from the records" in false["what"]
    for peer in peers:
        told = settled(peer, "frozen", epoch=false["epoch"])
        assert "pays nobody" in told["what"]
    status, found, errors = audit(tmp_path / "0", false["epoch"])
    assert status == 1 and not found["agrees"] and found["state"] == "frozen", errors
    assert "do not follow from the records" in found["why"]
    assert peers[0].of("round_done"), "training goes on"
