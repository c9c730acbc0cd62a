"""A local swarm: N peers as N processes on this machine, with one development chain, ended together."""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from swarm.chain.launch import start_node
from swarm.dashboard.command import beside
from swarm.errors import SwarmError
from swarm.events import Emitter, Event, Sink
from swarm.join import HOMES
from swarm.recipe import catalogue
from swarm.recipe.schema import Recipe
from swarm.round.summary import summarise_swarm
from swarm.training.obtain import obtain

STOP_S = 12.0
"""Seconds that a peer has to leave in good order."""
INVITE_S = 300.0
"""The first peer has this long to load its model and found the swarm."""


class LocalSwarm:
    """Starts the peers, hands on their events, and leaves no process behind."""

    def __init__(self, options: argparse.Namespace, recipe: Recipe | None, sink: Sink, stop: threading.Event) -> None:
        self._options = options
        self._recipe = recipe
        self._sink = sink
        self._stop = stop
        self._emit = Emitter(sink, "swarm")
        self._events: queue.Queue[tuple[int, Event | None]] = queue.Queue()
        self._summaries: dict[int, dict[str, Any]] = {}
        self._last_words: dict[int, deque[str]] = {}

    def run(self) -> dict[str, Any] | None:
        """The summary of the whole swarm, or None where no peer came to an end of its own.

        Raises:
            SwarmError: the chain, the model or the first peer could not start.
        """
        started = time.monotonic()
        options = self._options
        base = (options.home or HOMES / "local" / f"{self._name()}-{time.strftime('%Y%m%d-%H%M%S')}").expanduser()
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._emit("local_swarm", home=str(base), peers=options.peers, rounds=options.rounds)
        if self._recipe is not None:
            obtain(options.model or self._recipe.model.id, lambda line: self._emit("starting", what=line))
        with ExitStack() as stack:
            stack.enter_context(beside(base, options.dashboard, self._emit))
            rpc = options.rpc
            if rpc is None and options.invite is None:
                self._emit("starting", what="the development chain", expect_s=5)
                node = start_node(base / "chain", options.host, options.chain_port)
                stack.callback(node.stop)
                rpc = node.url
            peers = Children(base, options, rpc, self._events)
            stack.callback(peers.stop)
            self._run_peers(peers)
        if not self._summaries:
            return None
        first = next(iter(self._summaries.values()))
        entries = [summary["peers"][0] for _, summary in sorted(self._summaries.items())]
        chain = max(
            (summary["chain"] for summary in self._summaries.values()), key=lambda c: c["registered_peers"] or 0
        )
        summary = summarise_swarm(first["swarm"], chain, entries, time.monotonic() - started)
        finished = len(entries) == options.peers and all(peer["finished"] for peer in entries)
        self._emit("swarm_finished" if finished else "swarm_stopped", summary=summary)
        return summary if len(entries) == options.peers else None

    def _name(self) -> str:
        return self._recipe.name if self._recipe else catalogue.DEFAULT

    def _run_peers(self, peers: "Children") -> None:
        invite = self._options.invite
        peers.start(1, invite)
        others_started = self._options.peers == 1
        deadline = time.monotonic() + INVITE_S
        running = {1}
        while running and not self._stop.is_set():
            try:
                index, event = self._events.get(timeout=0.5)
            except queue.Empty:
                if not others_started and time.monotonic() > deadline:
                    raise SwarmError(
                        f"the first peer did not found the swarm within {INVITE_S:.0f} s; its log is {peers.log(1)}"
                    ) from None
                continue
            if event is None:
                running.discard(index)
                self._ended(index, peers, others_started)
                continue
            self._take(index, event)
            if event["event"] == "invite" and not others_started:
                others_started = True
                for other in range(2, self._options.peers + 1):
                    peers.start(other, event["invite"])
                    running.add(other)
        if self._stop.is_set():
            self._emit("stopping", what="ending all peers")
            peers.ask_to_stop()
            self._drain(running)

    def _take(self, index: int, event: Event) -> None:
        self._sink(event)
        if event["event"] in ("finished", "stopped") and event["summary"]:
            self._summaries[index] = event["summary"]

    def _ended(self, index: int, peers: "Children", others_started: bool) -> None:
        if index in self._summaries:
            return
        said = peers.last_words(index)
        if not others_started:
            raise SwarmError(said.removeprefix("swarm: ") or f"the first peer ended without a word; see {peers.log(1)}")
        self._emit("peer_lost", number=index, what=said or f"it ended without a word; see {peers.log(index)}")

    def _drain(self, running: set[int]) -> None:
        """The last events of peers that were asked to stop."""
        deadline = time.monotonic() + STOP_S
        while running and time.monotonic() < deadline:
            try:
                index, event = self._events.get(timeout=0.2)
            except queue.Empty:
                continue
            if event is None:
                running.discard(index)
                continue
            self._take(index, event)


class Children:
    """The peer processes. Each has a session of its own, and ends when its standard input does."""

    def __init__(
        self, base: Path, options: argparse.Namespace, rpc: str | None, events: "queue.Queue[tuple[int, Event | None]]"
    ) -> None:
        self._base = base
        self._options = options
        self._rpc = rpc
        self._events = events
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def log(self, index: int) -> Path:
        return self._base / f"peer-{index}" / "stderr.log"

    def last_words(self, index: int) -> str:
        """The last line that a peer wrote to its standard error."""
        try:
            lines = self.log(index).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def start(self, index: int, invite: str | None) -> None:
        options = self._options
        home = self._base / f"peer-{index}"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "swarm.join", "--supervised", "--plain", "--home", str(home)]
        command += [invite] if invite else []
        threads = options.threads or max(1, (os.cpu_count() or 1) // options.peers)
        given = {
            "--recipe": options.recipe,
            "--model": options.model,
            "--rounds": options.rounds,
            "--rpc": self._rpc,
            "--contract": None if invite else options.contract,
            "--openings": options.openings if index == 1 else None,
            "--host": options.host,
            "--announce-host": options.announce_host,
            "--device": options.device,
            "--track": options.track,
            "--threads": threads,
            "--sampler": options.sampler,
            "--twin": options.twin,
            "--wait-for": max(options.peers, options.wait_for),
            "--name": f"{options.name}-{index}" if options.name else None,
            "--port": options.port + index - 1 if options.port else None,
        }
        for flag, value in given.items():
            command += [flag, str(value)] if value is not None else []
        command += ["--no-practice"]  # it would take the cores from those who are waited for
        for relay in options.relay:
            command += ["--relay", relay]
        # Idle threads that spin would take the cores from the other peers.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads)}
        root = str(Path(__file__).resolve().parents[1])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        with self.log(index).open("ab") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env=environment,
            )
        self._processes[index] = process
        threading.Thread(target=self._read, args=(index, process), name=f"peer-{index}", daemon=True).start()

    def ask_to_stop(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()

    def stop(self) -> None:
        """End all that still run: asked first, then by force."""
        self.ask_to_stop()
        deadline = time.monotonic() + STOP_S
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _read(self, index: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                self._events.put((index, event))
        process.wait()
        self._events.put((index, None))
