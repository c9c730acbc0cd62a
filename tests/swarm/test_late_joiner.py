"""A newcomer with an invite, a peer killed with -9, its return, and a founder whom none of it disturbs."""

import json
import sqlite3

from tests.swarm.processes import PeerProcess


def test_join_late_die_and_return(tmp_path):
    with PeerProcess("--recipe", "tiny", "--home", tmp_path / "founder") as founder:
        invite = founder.wait_for("invite", 120)["invite"]
        founder.wait_for("round_done", 60, lambda event: event["ordinal"] == 2)
        assert founder.of("round_done")[0]["partners"] == 0

        joiner_home = tmp_path / "joiner"
        with PeerProcess(invite, "--home", joiner_home) as joiner:
            me = joiner.wait_for("identity", 60)
            joiner.wait_for("registered", 60)
            took_part = joiner.wait_for("round_done", 90, lambda event: event["partners"] == 1)
            founder.wait_for("round_done", 30, lambda event: event["partners"] == 1)
            assert joiner.of("round_done")[0]["partners"] == 1, "it takes part in the first round that it plays"
            joiner.wait_for("round_done", 90, lambda event: event["ordinal"] == 3)
            joiner.kill()
        with sqlite3.connect(joiner_home / "journal.sqlite") as journal:
            done, points = journal.execute(
                "SELECT max(ordinal), sum(json_extract(report, '$.points')) FROM rounds"
            ).fetchone()
        assert done >= 3 and took_part["rollouts_fetched"] > 0

        lost_at = founder.of("round_done")[-1]["ordinal"]
        founder.wait_for("round_done", 60, lambda event: event["ordinal"] >= lost_at + 3)

        summary = tmp_path / "summary.json"
        with PeerProcess(invite, "--home", joiner_home, "--rounds", 3, "--summary", summary) as returned:
            resumed = returned.wait_for("resumed", 60)
            assert resumed["ordinal"] == done
            assert returned.wait_for("identity", 5)["peer_id"] == me["peer_id"]
            assert returned.finish(120) == 0, returned.stderr.decode()
            assert returned.of("round_done")[-1]["partners"] == 1
            # it may have announced something in the round in which it was killed, and must not announce anything else
            assert returned.of("round")[0]["round"] > joiner.of("round")[-1]["round"]
        peer = json.loads(summary.read_text())["peers"][0]
        assert peer["rounds"] == done + 3
        assert peer["points"] >= points > 0
        assert founder.process.poll() is None


def test_the_swarm_survives_chain_and_founder(tmp_path):
    with PeerProcess("--recipe", "tiny", "--home", tmp_path / "founder") as founder:
        invite = founder.wait_for("invite", 120)["invite"]
        with PeerProcess(invite, "--home", tmp_path / "joiner") as joiner:
            joiner.wait_for("round_done", 120, lambda event: event["partners"] == 1)
            chain = next(p for p in founder.descendants() if "swarm.chain.node" in " ".join(p.cmdline()))
            chain.kill()
            without = joiner.wait_for("round", 60, lambda event: not event["seed_from_chain"])
            together = joiner.wait_for(
                "round_done", 60, lambda event: event["number"] >= without["round"] and event["partners"] == 1
            )
            assert together["updated"] or together["why_nothing"], "training goes on without the chain"
            founder.kill()
            alone = joiner.wait_for("round_done", 90, lambda event: event["number"] > together["number"] + 1)
            joiner.wait_for(
                "round_done", 90, lambda event: event["number"] > alone["number"] and event["partners"] == 0
            )


def test_a_founder_returns_to_its_swarm(tmp_path):
    seen = []
    for ordinal in (2, 4):
        summary = tmp_path / "summary.json"
        with PeerProcess(
            "--home", tmp_path / "home", "--recipe", "tiny", "--rounds", 2, "--summary", summary
        ) as founder:
            assert founder.finish(120) == 0, founder.stderr.decode()
        seen.append(json.loads(summary.read_text()))
        assert seen[-1]["rounds"] == ordinal
    first, second = seen
    assert (first["swarm"], first["chain"]) == (second["swarm"], second["chain"]), "the invite stays true"
    assert first["peers"][0]["peer_id"] == second["peers"][0]["peer_id"]
    assert second["peers"][0]["reward"][:2] == first["peers"][0]["reward"]
    assert second["peers"][0]["points"] >= first["peers"][0]["points"]
