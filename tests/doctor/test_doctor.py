"""The doctor: each finding from its cause, and a real swarm of two examined from outside."""

import json
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from swarm.chain.launch import start_node
from swarm.doctor import clock, command, machine, outside
from swarm.doctor.findings import Finding, is_ill, run
from swarm.identity.key import load_or_create
from swarm.network import Invite, Network
from swarm.network.dialback import Answer, DialBack, Outcome, ip_of
from swarm.network.reach import Reach

Usage = namedtuple("Usage", "total used free")
CONTRACT = "0x" + "1" * 40


@pytest.mark.parametrize(
    ("readings", "chain_ahead_s", "verdict", "words"),
    [
        ({}, None, "skipped", "nobody"),
        ({"a": 0.2, "b": -0.3, "c": 90.0}, -5.0, "ok", "3 sources"),
        ({"a": 2.0}, None, "warning", "behind 1 source"),
        ({"a": -7.0, "b": -8.0}, None, "problem", "ahead of 2 sources"),
        ({}, 60.0, "problem", "in the future"),
        ({"a": 0.0}, -4000.0, "ok", "within"),
    ],
)
def test_the_clock(readings, chain_ahead_s, verdict, words):
    found = clock.judge(readings, chain_ahead_s)
    assert found.verdict == verdict
    assert words in found.sentence


@pytest.mark.parametrize(("free", "verdict"), [(100 << 20, "problem"), (2 << 30, "warning"), (50 << 30, "ok")])
def test_disk_and_memory(monkeypatch, tmp_path, free, verdict):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: namedtuple("V", "available")(free))
    assert machine.disk(tmp_path / "not" / "yet").verdict == verdict
    assert machine.memory().verdict == verdict


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_in_use_is_seen(kind):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen(1)
        (found,) = machine.ports("127.0.0.1", taken.getsockname()[1])
    assert found.verdict == "problem"
    assert "port" in found.sentence


def test_device_and_model(monkeypatch, tmp_path):
    monkeypatch.setenv("SWARM_CACHE", str(tmp_path))
    monkeypatch.setattr("swarm.training.obtain.hub_answers", lambda: False)
    assert machine.device("cpu").verdict == "ok"
    assert machine.device("abacus").verdict == "problem"
    assert machine.model("tiny").verdict == "ok"
    assert machine.model(str(tmp_path)).verdict == "ok"
    assert machine.model("nobody/nothing").verdict == "warning"
    assert machine.model("nonsense").verdict == "problem"


def test_a_check_that_breaks_hides_no_other():
    (found,) = run("disk", lambda: 1 / 0)
    assert found.verdict == "problem"
    assert "ZeroDivisionError" in found.sentence


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([Outcome.NOT_REACHED, Outcome.REACHED], "ok"),
        ([Outcome.NOT_REACHED, Outcome.BUSY], "warning"),
        ([Outcome.RELAYED], "warning"),
        ([Outcome.BUSY], "skipped"),
        ([], "skipped"),
    ],
)
def test_reachability_follows_from_what_others_say(outcomes, verdict):
    assert outside.reachable([Answer(outcome, 0.0) for outcome in outcomes], 4001).verdict == verdict


def test_only_the_address_a_caller_comes_from_is_ever_dialled():
    assert ip_of("/ip4/198.51.100.7/tcp/4001") == "198.51.100.7"
    assert ip_of("/ip6/2001:db8::1/udp/4001/quic-v1") == "2001:db8::1"
    assert ip_of("/ip4/198.51.100.7/tcp/4001/p2p/16Uiu2H/p2p-circuit") is None
    assert ip_of("/dns4/victim.example/tcp/80") is None
    assert ip_of("") is None


def test_without_a_swarm_it_works_and_says_what_it_skipped(capsys, monkeypatch):
    monkeypatch.setattr(machine, "device", lambda _: Finding("device", "ok", "a device"))
    status = command.main(["--json", "--model", "tiny"])
    told = json.loads(capsys.readouterr().out)
    assert status == (0 if told["well"] else 1)
    assert {found["about"] for found in told["findings"]} == set(
        "disk memory device model port chain peers reach relay clock".split()
    )
    assert [found["verdict"] for found in told["findings"] if found["about"] in ("chain", "peers")] == ["skipped"] * 2


def test_a_wrong_call_is_one_sentence(capsys):
    assert command.main(["swarm:nonsense"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def founder(tmp_path):
    key = tmp_path / "key"
    network = Network.start(
        load_or_create(key), key, f"7:{CONTRACT}", blob_dir=tmp_path / "blobs", is_member=lambda _: True
    )
    yield network
    network.close()


def test_another_peer_dials_back_and_not_without_end(founder):
    invite = Invite("", 7, CONTRACT, tuple(founder.addresses))
    clocks = outside.Clocks()
    found = {finding.about: finding for finding in outside.peers(invite, Reach(), clocks)}
    assert {about: finding.verdict for about, finding in found.items()} == {"peers": "ok", "reach": "ok", "relay": "ok"}
    assert clock.judge(clocks.readings, None).verdict == "ok"
    service = DialBack()
    taken = [service._per_caller.take("peer", 1) for _ in range(5)]
    assert taken == [True] * 3 + [False] * 2


def test_an_invite_nobody_answers_is_a_problem(founder):
    gone = Invite("", 7, CONTRACT, tuple(founder.addresses))
    founder.close()
    found = list(outside.peers(gone, Reach(), outside.Clocks()))
    assert is_ill(found)
    assert "none of 1 addresses" in found[0].sentence


def test_a_chain_that_does_not_answer_is_a_problem():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    (found,) = outside.chain(url, None, outside.Clocks())
    assert found.verdict == "problem"
    assert "trains alone" in found.sentence


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    running = start_node(tmp_path_factory.mktemp("chain"))
    yield running
    running.stop()


def test_a_chain_that_answers(node):
    clocks = outside.Clocks()
    (found,) = outside.chain(node.url, None, clocks)
    assert found.verdict == "ok" and f"chain {node.chain_id} answered" in found.sentence
    assert abs(clocks.chain_ahead_s) < 60, "its newest block tells the time"


@pytest.mark.parametrize(
    ("other_chain", "sentence"), [(1, "chain"), (0, f"there is no contract at {CONTRACT}")], ids=["chain", "contract"]
)
def test_an_invite_of_another_chain_or_contract_is_a_problem(node, other_chain, sentence):
    invite = Invite(node.url, node.chain_id + other_chain, CONTRACT, ())
    (found,) = outside.chain(node.url, invite, outside.Clocks())
    assert found.verdict == "problem" and sentence in found.sentence, found.sentence


def test_a_chain_whose_newest_block_is_old_is_a_warning(node, monkeypatch):
    monkeypatch.setattr(outside, "OLD_BLOCK_S", -1.0)
    (found,) = outside.chain(node.url, None, outside.Clocks())
    assert found.verdict == "warning" and "may be behind" in found.sentence


def test_the_command_ends_with_its_status():
    called = subprocess.run(
        [sys.executable, "-m", "swarm", "doctor", "--host", "nowhere", "--port", "1"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert called.returncode == 2, called.stdout + called.stderr
    assert "not an IP address" in called.stderr
