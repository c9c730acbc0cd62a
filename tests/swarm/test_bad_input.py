"""Each mistake gets one clear sentence, an exit status of 2, and no traceback."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swarm.network.invite import Invite
from tests.swarm.processes import ROOT, PeerProcess


def say(*arguments):
    """What the command line says about a mistake: one line."""
    done = subprocess.run(
        [sys.executable, "-m", "swarm.join", "--plain", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=90,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("swarm: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def say_each(*commands):
    """The same about several mistakes, made at the same time: most of it is the import of torch, on one core."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda arguments: say(*arguments), commands))


@pytest.fixture(scope="module")
def founder(tmp_path_factory):
    """A swarm whose founder waits for somebody, and so leaves the cores to the others."""
    home = tmp_path_factory.mktemp("founder") / "home"
    with PeerProcess("--recipe", "tiny", "--home", home, "--wait-for", 2) as peer:
        peer.wait_for("invite", 120)
        yield peer, home


def test_wrong_recipe(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((ROOT / "recipes" / "tiny.yaml").read_text().replace("samples: 8", "sampels: 8", 1))
    said = say("--recipe", recipe)
    assert f"{recipe}, line " in said and "did you mean 'samples'" in said
    assert "did you mean 'tiny'" in say("--recipe", "tinny")


def test_unknown_model(tmp_path):
    of_a_hub, of_nothing = say_each(
        ("--recipe", "tiny", "--model", "no/such-model", "--home", tmp_path / "a"),
        ("--recipe", "tiny", "--model", "nonsense", "--home", tmp_path / "b"),
    )
    assert "no/such-model" in of_a_hub
    assert "neither a directory" in of_nothing


def test_an_invite_that_is_cut_short(founder):
    invite = founder[0].wait_for("invite", 1)["invite"]
    short, other = say_each((invite[:-9],), ("hello",))
    assert "ask for the whole invite" in short
    assert "does not begin with swarm:" in other


def test_an_invite_for_another_recipe(founder, tmp_path):
    invite = founder[0].wait_for("invite", 1)["invite"]
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((ROOT / "recipes" / "tiny.yaml").read_text().replace("samples: 8", "samples: 4", 1))
    said = say(invite, "--recipe", recipe, "--home", tmp_path / "home")
    assert "another recipe" in said and "join without --recipe" in said


def test_a_home_in_use(founder):
    assert "in use by another peer" in say("--recipe", "tiny", "--home", founder[1])


def test_a_home_of_another_swarm(founder, tmp_path):
    invite = founder[0].wait_for("invite", 1)["invite"]
    home = tmp_path / "home"
    with PeerProcess("--recipe", "tiny", "--home", home, "--rounds", 1) as other:
        assert other.finish(120) == 0
    assert "belongs to the swarm" in say(invite, "--home", home)


def test_a_dead_rpc(founder, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    invite = Invite.decode(founder[0].wait_for("invite", 1)["invite"])
    dead = Invite(url, invite.chain_id, invite.contract, invite.bootstrap).encode()
    for said in say_each(
        ("--recipe", "tiny", "--rpc", url, "--home", tmp_path / "a"), (dead, "--home", tmp_path / "b")
    ):
        assert url.removeprefix("http://") in said


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ("--port", "--chain-port")
        for said in say_each(*(("--recipe", "tiny", flag, port, "--home", tmp_path / flag) for flag in flags)):
            assert str(port) in said


def test_no_disk_space(tmp_path, monkeypatch):
    from swarm.errors import SwarmError
    from swarm.round import home

    monkeypatch.setattr(home, "MIN_FREE_BYTES", 2**70)
    with pytest.raises(SwarmError, match="name a folder on another disk"):
        home.Home(tmp_path / "home")


def test_a_summary_that_cannot_be_written(tmp_path):
    assert "cannot be written" in say("--recipe", "tiny", "--summary", tmp_path / "no" / "such" / "file.json")


def test_a_home_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "cannot be used" in say("--recipe", "tiny", "--home", Path(blocked) / "home")
