"""--track: what reaches a tracker, and that a broken one costs nothing."""

import importlib.util
import sqlite3
import subprocess
import sys
from dataclasses import asdict

import pytest

from swarm import join, tracking
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.round.report import RoundReport
from swarm.tracking import check, numbers_of, tracked


def done(ordinal, **more):
    """What a peer tells at the end of a round."""
    report = RoundReport(
        number=7 * ordinal, ordinal=ordinal, rewards={"answer": 0.25 * ordinal}, points=1.5, groups_trained=4,
        dropped={"all right": 2, "all rewards equal": 1}, generated_tokens=300, seconds={"answer": 2.0, "wait": 9.0},
        update={"mean_ratio_drift": 0.01},
    )  # fmt: skip
    return asdict(report) | more


@pytest.fixture(autouse=True)
def time_enough(monkeypatch):
    """Importing tensorboard takes long where other tests use the cores."""
    monkeypatch.setattr(tracking, "CLOSE_S", 90)


def play(name, home):
    """Three rounds and a measurement through a tracker; what was told beside them."""
    told = []
    emit = Emitter(
        lambda event: told.append(event) if event["event"] == "tracking_failed" else None, "swift <otter>/.."
    )
    with tracked(name, home, emit):
        emit("heldout", ordinal=0, correct=16, of=64)
        for ordinal in (1, 2, 3):
            emit("round_done", **done(ordinal))
    return told


def test_every_number_of_a_round():
    step, numbers = numbers_of(
        {
            "event": "round_done",
            **done(2, peak_memory=2**30, joules=5.0, help=None, refused={"garbage": 1, "not delivered": 2}),
        }
    )
    assert step == 2
    assert numbers == {
        "reward/answer": 0.5, "seconds/answer": 2.0, "seconds/wait": 9.0, "points/round": 1.5, "groups/trained": 4.0,
        "groups/fetched": 0.0, "groups/dropped": 3.0, "swarm/partners": 0.0, "swarm/refused": 1.0,
        "swarm/not_revealed": 2.0, "swarm/merged": 0.0,
        "speed/tokens_per_s": 150.0, "update/drift": 0.01, "memory/peak_bytes": 2.0**30, "energy/joules": 5.0,
    }  # fmt: skip
    assert numbers_of({"event": "stage", "stage": "answer"}) is None


def test_numbers_of_the_twin_stand_at_its_own_rounds():
    told = {"gain": 0.1, "low": 0.02, "high": 0.18, "rounds": 5, "method": "twin"}
    found = numbers_of({"event": "twin", "rounds": 5, "help": told})
    assert found == (5, {"twin/gain": 0.1, "twin/low": 0.02, "twin/high": 0.18})
    assert numbers_of({"event": "twin", "rounds": 5, "help": None}) is None


def test_tensorboard_has_the_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert play("tensorboard", tmp_path) == []
    written = EventAccumulator(str(tmp_path / "tensorboard"))
    written.Reload()
    rewards = [(point.step, point.value) for point in written.Scalars("reward/answer")]
    assert rewards == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert [(point.step, point.value) for point in written.Scalars("heldout/accuracy")] == [(0, 0.25)]


def test_trackio_has_the_numbers(tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="trackio is not installed: pip install trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    assert play("trackio", tmp_path / "home") == []
    with sqlite3.connect(tmp_path / "rl-swarm.db") as database:
        assert [row[0] for row in database.execute("SELECT step FROM metrics ORDER BY step")] == [0, 1, 2, 3]


def test_wandb_has_the_numbers_without_internet(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert play("wandb", tmp_path) == []
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert file.stat().st_size > 0


def test_a_tracker_that_breaks_is_told_once_and_costs_nothing(tmp_path):
    (tmp_path / "tensorboard").write_text("where a folder should be")
    (told,) = play("tensorboard", tmp_path)
    assert told["what"].startswith("tensorboard takes no more numbers") and "tracker.log says why" in told["what"]
    assert "tensorboard" in (tmp_path / "tracker.log").read_text()


def test_a_tracker_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "CLOSE_S", 0.2)
    started = subprocess.Popen
    hung = []

    def start(command, **options):
        hung.append(started([sys.executable, "-c", "import time; time.sleep(600)"], **options))
        return hung[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    play("tensorboard", tmp_path)
    assert hung[0].poll() is not None


def test_a_missing_package_is_told_before_anything_starts(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SwarmError, match="pip install wandb"):
        check("wandb")
    assert join.main(["--track", "wandb", "--home", str(tmp_path / "home"), "--plain"]) == 2
    assert "pip install wandb" in capsys.readouterr().err and not (tmp_path / "home").exists()
