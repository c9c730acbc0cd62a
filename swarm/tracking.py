"""A peer's numbers for the trackers that people use already: `--track tensorboard`, `trackio` or `wandb`.

The tracker runs in a process of its own, which is given numbers as lines of JSON and nothing else: whatever it prints,
hangs in or dies of, training goes on, and a person is told once. Nothing here needs the internet.
"""

import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from swarm.dashboard.curves import tokens_per_s_of
from swarm.dashboard.history import broken_rules
from swarm.errors import SwarmError
from swarm.events import Emitter, Event
from swarm.round.wire import NOT_DELIVERED

MAX_WAITING = 1000
"""Lines that a slow tracker may be behind; later ones are left out."""
CLOSE_S = 20.0
"""To write out the last numbers at the end."""
ORPHAN_S = 60.0
LOG_NAME = "tracker.log"

Numbers = dict[str, float]
Write = Callable[[int, float, Numbers], None]
"""Takes the step (rounds done), unix seconds and the numbers."""


def numbers_of(event: Event) -> tuple[int, Numbers] | None:
    """The step (rounds done) and the numbers of a finished round or a held-out measurement; None for other events.

    Names have the form `part/what`; what is not known is left out.
    """
    match event["event"]:
        case "round_done":
            return event["ordinal"], _of_round(event)
        case "heldout" if event["of"]:
            return event["ordinal"], {"heldout/accuracy": event["correct"] / event["of"]}
        case "twin" if event["help"]:
            return event["rounds"], {f"twin/{key}": float(event["help"][key]) for key in ("gain", "low", "high")}
        case _:
            return None


def _of_round(report: dict[str, Any]) -> Numbers:
    found = {
        **{f"reward/{stage}": value for stage, value in report["rewards"].items()},
        **{f"seconds/{stage}": value for stage, value in report["seconds"].items()},
        "points/round": report["points"],
        "judge/informedness": report["informedness"],
        "groups/trained": report["groups_trained"],
        "groups/fetched": report["groups_fetched"],
        "groups/dropped": sum(report["dropped"].values()),
        "swarm/partners": report["partners"],
        "swarm/refused": broken_rules(report).total(),
        "swarm/not_revealed": report["refused"].get(NOT_DELIVERED, 0),
        "swarm/merged": report["merged"],
        "swarm/staleness_s": report["staleness_s"],
        "speed/tokens_per_s": tokens_per_s_of(report),
        "update/drift": report["update"].get("mean_ratio_drift"),
        "memory/peak_bytes": report.get("peak_memory"),
        "energy/joules": report.get("joules"),
        **{f"help/{key}": (report.get("help") or {}).get(key) for key in ("gain", "low", "high")},
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def check(name: str | None) -> None:
    """Raises SwarmError where a tracker's package is not installed."""
    if name is not None and importlib.util.find_spec(name) is None:
        raise SwarmError(f"--track {name} needs the package {name}, which is not installed: pip install {name}")


@contextmanager
def tracked(name: str | None, home: Path, emit: Emitter) -> Iterator[None]:
    """Give a tracker the numbers that `emit` tells of, until the end of the block; None: nobody."""
    if name is None:
        yield
        return
    tracker = Tracker(name, home.expanduser().resolve(), emit)
    try:
        with emit.also(tracker):
            yield
    finally:
        tracker.close()


class Tracker:
    """The process of a tracker, and a sink of events for it. It never raises and never blocks."""

    def __init__(self, name: str, home: Path, emit: Emitter) -> None:
        self._name = name
        self._home = home
        self._emit = emit
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        found = numbers_of(event)
        if found is not None:
            step, numbers = found
            line = {"step": step, "at": event["at"], "run": event["peer"], "numbers": numbers}
            try:
                self._lines.put_nowait(json.dumps(line))
            except queue.Full:
                pass  # a tracker that has stopped reading is not worth a round

    def close(self) -> None:
        """Let it write what it has, and end it."""
        deadline = time.monotonic() + CLOSE_S
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            pass
        self._thread.join(CLOSE_S)
        if self._process is not None:
            try:
                self._process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _run(self) -> None:
        log = self._home / LOG_NAME
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "swarm.tracking", self._name, str(self._home)],
                    stdin=subprocess.PIPE, stdout=output, stderr=output, text=True, start_new_session=True,
                )  # fmt: skip
            assert self._process.stdin is not None
            with self._process.stdin as given:
                while (line := self._lines.get()) is not None:
                    given.write(line + "\n")
                    given.flush()
            status = self._process.wait(CLOSE_S)
            why = f"it ended with status {status}" if status else None
        except subprocess.TimeoutExpired:
            why = f"it did not end within {CLOSE_S:.0f} s"
        except OSError as error:  # the pipe of a process that has ended, for one
            why = str(error)
        if why is not None:
            self._emit("tracking_failed", what=f"{self._name} takes no more numbers ({why}); {log} says why")


# The process of the tracker.


def main(arguments: list[str]) -> int:
    """Write the numbers that come on standard input, until it ends."""
    name, home = arguments
    write: Write | None = None
    finish: Callable[[], None] = lambda: None  # noqa: E731
    for text in sys.stdin:
        line = json.loads(text)
        if write is None:
            write, finish = _OPEN[name](Path(home), line["run"])
        write(line["step"], line["at"], line["numbers"])
    end = threading.Timer(ORPHAN_S, os._exit, [1])
    end.daemon = True
    end.start()  # the peer may be gone already, and then nobody else ends this process
    finish()
    return 0


def _tensorboard(home: Path, run: str) -> tuple[Write, Callable[[], None]]:
    """Event files below the home: `tensorboard --logdir HOME/tensorboard`."""
    from tensorboard.compat.proto.event_pb2 import Event as Entry
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(home / "tensorboard"))

    def write(step: int, at: float, numbers: Numbers) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        writer.add_event(Entry(wall_time=at, step=step, summary=Summary(value=values)))
        writer.flush()

    return write, writer.close


def _trackio(home: Path, run: str) -> tuple[Write, Callable[[], None]]:
    """The project `rl-swarm` in trackio's own folder on this machine: `trackio show`."""
    import trackio

    trackio.init(
        "rl-swarm", name=_run_id(home, run), resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False
    )
    return lambda step, at, numbers: trackio.log(numbers, step=step), trackio.finish


def _wandb(home: Path, run: str) -> tuple[Write, Callable[[], None]]:
    """Offline, to be sent with `wandb sync`, unless WANDB_API_KEY or WANDB_MODE ask for more."""
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if "WANDB_API_KEY" in os.environ else "offline")
    project = os.environ.get("WANDB_PROJECT", "rl-swarm")
    running = wandb.init(project=project, name=run, id=_run_id(home, run), dir=home, mode=mode, resume="allow")
    return lambda step, at, numbers: running.log(numbers, step=step), running.finish


def _run_id(home: Path, run: str) -> str:
    """The same for a home whenever it is started, and another for every home."""
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in run)[:40]
    return f"{safe}-{sha256(str(home).encode()).hexdigest()[:8]}"


_OPEN = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}
TRACKERS = tuple(_OPEN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
