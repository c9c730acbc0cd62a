"""One registered peer floods, forges, replays and freezes; the others go on."""

import json
import os
import signal
import subprocess
import sys
import threading

import psutil

from tests.lifetime import start
from tests.swarm.processes import ROOT, PeerProcess

ROUNDS = 12


def start_hostile(invite, home):
    return start(
        [sys.executable, "-m", "tests.swarm.hostile_peer", invite, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_the_others_go_on(tmp_path):
    home = tmp_path / "hostile"
    home.mkdir()
    summary = tmp_path / "summary.json"
    with PeerProcess("--recipe", "tiny", "--home", tmp_path / "a", "--wait-for", 2, "--rounds", ROUNDS) as first:
        invite = first.wait_for("invite", 120)["invite"]
        hostile = start_hostile(invite, home)
        attacks = []

        def read():
            for line in hostile.stdout:
                attacks.append(json.loads(line))
                if len(attacks) == 9:
                    # it freezes for good in the middle of all that: its blobs and heartbeats hang
                    hostile.send_signal(signal.SIGSTOP)

        threading.Thread(target=read, daemon=True).start()
        try:
            with PeerProcess(
                invite, "--home", tmp_path / "b", "--wait-for", 2, "--rounds", ROUNDS, "--summary", summary
            ) as second:
                assert second.finish(280) == 0, second.stderr.decode()[-2000:]
                assert first.finish(60) == 0, first.stderr.decode()[-2000:]
        finally:
            hostile.send_signal(signal.SIGCONT)
            hostile.kill()
            said = hostile.stderr.read().decode()
            psutil.wait_procs([psutil.Process(hostile.pid)] if psutil.pid_exists(hostile.pid) else [], 10)
    assert len(attacks) >= 9, said
    done = second.of("round_done")
    assert len(done) == ROUNDS
    assert all(event["partners"] == 1 for event in done), "the honest partner is there, the hostile one never counts"
    refused = [event["refused"] for peer in (first, second) for event in peer.of("round_done")]
    assert any("garbage" in reasons for reasons in refused)
    # each kind of false record has a test of its own; here it shows that failing costs its author ever more attention
    assert 2 <= sum(bool(reasons) for reasons in refused) <= ROUNDS
    peer = json.loads(summary.read_text())["peers"][0]
    assert peer["updates"] >= ROUNDS - 1 and peer["critiques"] > 0 and peer["revisions"] > 0
    assert peer["heldout"]["after"] > peer["heldout"]["before"]
