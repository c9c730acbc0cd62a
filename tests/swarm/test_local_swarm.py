"""The main job: three real peers, a real chain, real libp2p, and rewards that rise."""

import json
import os
import signal
import statistics

import psutil
import pytest

from tests.swarm.processes import PeerProcess, all_gone

ROUNDS = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    summary = folder / "summary.json"
    with PeerProcess(
        "--recipe", "tiny", "--peers", 3, "--rounds", ROUNDS, "--home", folder / "home", "--summary", summary
    ) as swarm:
        status = swarm.finish(280)
    assert status == 0, swarm.stderr.decode()[-3000:]
    return swarm, json.loads(summary.read_text()), folder


def test_the_summary_is_complete(run):
    _, summary, _ = run
    assert summary["rounds"] == ROUNDS and summary["seconds"] > 0
    assert summary["chain"]["registered_peers"] == 3 == len(summary["peers"])
    assert summary["swarm"].endswith(summary["chain"]["contract"])
    for peer in summary["peers"]:
        assert peer["registered"] and peer["finished"] and peer["rounds"] == ROUNDS == len(peer["reward"])
        assert peer["tokens_per_s"] > 0 and peer["generated_tokens"] > 0 and peer["points"] > 0
    assert len({peer["peer_id"] for peer in summary["peers"]}) == 3


def test_everybody_took_part_in_everything(run):
    swarm, summary, _ = run
    for peer in summary["peers"]:
        for what in ("rollouts_published", "rollouts_fetched", "critiques", "revisions", "verdicts", "updates"):
            assert peer[what] > ROUNDS / 2, what
    together = [event for event in swarm.of("round_done") if event["partners"] == 2]
    assert len(together) >= 3 * (ROUNDS - 2)
    assert sum(event["groups_fetched"] for event in swarm.of("round_done")) > 3 * ROUNDS


def test_weights_are_merged_and_what_it_brings_is_known(run):
    swarm, summary, _ = run
    for peer in summary["peers"]:
        assert peer["merged"] > ROUNDS, "two others, in most rounds"
        assert peer["help"]["rounds"] > ROUNDS / 2
        assert peer["help"]["low"] <= peer["help"]["gain"] <= peer["help"]["high"]
    refused = {reason for event in swarm.of("round_done") for reason in event["merge_refused"]}
    assert refused <= {"held-out fell", "stale", "not delivered"}, "nothing that an honest peer sent was garbage"


def test_reward_and_heldout_accuracy_rise(run):
    _, summary, _ = run
    first = statistics.mean(reward for peer in summary["peers"] for reward in peer["reward"][:3])
    last = statistics.mean(reward for peer in summary["peers"] for reward in peer["reward"][-3:])
    assert last > first + 0.05
    gains = [peer["heldout"]["after"] - peer["heldout"]["before"] for peer in summary["peers"]]
    assert min(gains) > 0 and statistics.mean(gains) > 0.1


def running_below(folder):
    """Peers, chain nodes and p2pd all have a path of their home among their arguments."""
    found = psutil.process_iter(["cmdline"])
    return [p.info["cmdline"] for p in found if any(str(folder) in part for part in p.info["cmdline"] or [])]


def test_nothing_is_left_running(run):
    assert running_below(run[2]) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_the_end_of_the_parent_ends_all(tmp_path, how):
    with PeerProcess("--recipe", "tiny", "--peers", 2, "--home", tmp_path / "home") as swarm:
        swarm.wait_for("round_done", 120)
        processes = swarm.descendants()
        commands = [" ".join(process.cmdline()) for process in processes]
        assert sum("p2pd" in command for command in commands) == 2
        assert sum("swarm.chain.node" in command for command in commands) == 1
        assert len(running_below(tmp_path)) >= 1 + 2 + 2 + 1
        os.kill(swarm.pid, how)
        assert swarm.finish(40) is not None
        assert all_gone(processes, 30) == []
        assert running_below(tmp_path) == []
        if how == signal.SIGINT:
            assert swarm.of("stopped") or swarm.of("finished")
