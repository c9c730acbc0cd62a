"""The live display of a running peer or local swarm: a pure function of its events, drawn with rich."""

import argparse
import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from swarm.events import Event

STAGES = ("answer", "critique", "revise")
_KEPT_LINES = 8
_UNSAFE = re.compile(r"[^\x20-\x7e\u00a1-\u024f\u2026\u2192]")


def plain_text(value: object, limit: int = 200) -> str:
    """Text from elsewhere without control, direction or zero-width characters, shortened."""
    return _UNSAFE.sub("?", str(value))[:limit]


@dataclass
class PeerView:
    """What the display knows of one of the peers that it watches."""

    name: str
    state: str = "starting"
    until: float | None = None
    ordinal: int = 0
    of: int | None = None
    rewards: dict[str, float] = field(default_factory=dict)
    first_heldout: float | None = None
    last_heldout: float | None = None
    tokens_per_s: float | None = None
    points: float = 0.0
    device: str = ""
    model: str = ""
    note: str = ""
    help: dict[str, Any] | None = None
    twin: dict[str, Any] | None = None
    partners: int | None = None


@dataclass
class View:
    """Everything on the screen. `take` is the only thing that changes it."""

    peers: dict[str, PeerView] = field(default_factory=dict)
    here: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    swarm: str = ""
    invite: str = ""
    home: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    summary: dict[str, Any] | None = None

    def take(self, event: Event) -> None:
        """Apply one event; kinds that are not known change nothing."""
        handler = getattr(self, f"_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _peer(self, event: Event) -> PeerView:
        name = plain_text(event.get("peer") or "this peer", 40)
        return self.peers.setdefault(name, PeerView(name))

    def _say(self, event: Event, text: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(event.get("at", time.time())))
        speaker = f"{event['peer']}: " if event.get("peer") else ""
        self.lines.append(plain_text(f"{clock} {speaker}{text}"))

    def _local_swarm(self, event: Event) -> None:
        self.home = plain_text(event["home"])
        self._say(event, f"{event['peers']} peers, homes below {event['home']}")

    def _dashboard(self, event: Event) -> None:
        self._say(event, f"the dashboard is at {event['url']}")

    def _tracking_failed(self, event: Event) -> None:
        self._say(event, event["what"])

    def _starting(self, event: Event) -> None:
        expected = f" (about {event['expect_s']} s)" if "expect_s" in event else ""
        self._say(event, f"{event['what']}{expected}")

    def _identity(self, event: Event) -> None:
        self._peer(event)
        self.home = self.home or plain_text(event["home"])

    def _swarm(self, event: Event) -> None:
        self.swarm = plain_text(event["swarm"])

    def _model(self, event: Event) -> None:
        peer = self._peer(event)
        peer.model, peer.device = plain_text(event["model"], 60), plain_text(event["device"], 40)
        peer.state = "ready"

    def _registered(self, event: Event) -> None:
        cost = f" for {event['gas']} gas" if event.get("gas") else " already"
        self._say(event, f"registered on the chain{cost} as {event['address']}")

    def _resumed(self, event: Event) -> None:
        self._say(event, f"goes on after its round {event['ordinal']}")

    def _invite(self, event: Event) -> None:
        self.invite = self.invite or plain_text(event["invite"], 4096)

    def _peers(self, event: Event) -> None:
        known = {plain_text(peer["name"], 40) for peer in event["peers"].values()}
        self.here = {plain_text(peer_id, 64): peer for peer_id, peer in event["peers"].items()}
        if event["other_versions"]:
            self._say(
                event, f"{len(event['other_versions'])} peers run another version of this program and cannot take part"
            )
        if len(self.peers) == 1:
            self._say(
                event, f"here now: {', '.join(sorted(known))}" if known else "nobody else is here: training alone"
            )

    def _gathering(self, event: Event) -> None:
        self._peer(event).state = f"waiting for peers: {event['here']} of {event['of']} are here"

    def _measuring(self, event: Event) -> None:
        peer = self._peer(event)
        peer.state, peer.until = f"answering {event['questions']} held-out questions", None

    def _heldout(self, event: Event) -> None:
        peer = self._peer(event)
        share = event["correct"] / event["of"]
        peer.first_heldout = share if peer.first_heldout is None else peer.first_heldout
        peer.last_heldout = share
        self._say(event, f"held-out accuracy {share:.0%} after {event['ordinal']} rounds")

    def _round(self, event: Event) -> None:
        peer = self._peer(event)
        peer.ordinal, peer.of, peer.note = event["ordinal"], event["of"], ""
        if not event["seed_from_chain"]:
            self._say(event, "no block of the chain in time: this round's seed could be foreseen; training goes on")

    def _stage(self, event: Event) -> None:
        peer = self._peer(event)
        peer.state, peer.until = plain_text(event["stage"], 20), event["until"]

    def _waiting(self, event: Event) -> None:
        peer = self._peer(event)
        peer.state, peer.until = f"waiting for the others ({plain_text(event['stage'], 20)})", event["until"]

    def _smaller_round(self, event: Event) -> None:
        self._say(event, f"answers {event['tasks']} of {event['of']} tasks, as many as it can finish in time")

    def _round_done(self, event: Event) -> None:
        peer = self._peer(event)
        peer.rewards, peer.partners = event["rewards"], event["partners"]
        seconds = sum(event["seconds"].get(stage, 0.0) for stage in STAGES)
        peer.tokens_per_s = event["generated_tokens"] / seconds if seconds else None
        peer.points += event["points"]
        peer.note = plain_text(event["why_nothing"] or "", 120)
        peer.help = event.get("help")
        if event["why_nothing"]:
            self._say(event, f"round {event['ordinal']} taught nothing: {event['why_nothing']}")

    def _twin(self, event: Event) -> None:
        told = event["help"]
        self._peer(event).twin = told
        if told:
            self._say(event, f"after {event['rounds']} rounds {helped(told)} beside its twin, which learns alone")

    def _caught_up(self, event: Event) -> None:
        self._say(event, f"starts from the merged model of {event['merged']} peers")

    def _no_merging(self, event: Event) -> None:
        self._say(event, f"merges with nobody: {event['why']}")

    def _settlement(self, event: Event) -> None:
        told = event["state"] in ("posted", "final", "frozen", "false", "unsettled", "waiting")
        if told and event.get("peer") == next(iter(self.peers), None):  # the others say the same
            self._say(event, event["what"])

    def _recipe_change(self, event: Event) -> None:
        self._say(event, event["what"])

    def _outbox_failing(self, event: Event) -> None:
        self._say(event, f"{event['waiting']} transactions wait for the chain: {event['what']}")

    def _outbox_working(self, event: Event) -> None:
        self._say(event, "the chain takes transactions again")

    def _peer_lost(self, event: Event) -> None:
        self._say(event, f"peer {event['number']} is gone: {event['what']}")

    def _stopping(self, event: Event) -> None:
        self._say(event, "stopping: Ctrl-C again ends everything at once")

    def _finished(self, event: Event) -> None:
        self._peer(event).state = "finished"
        self.summary = event["summary"]

    def _stopped(self, event: Event) -> None:
        self._peer(event).state = "stopped"

    def _swarm_finished(self, event: Event) -> None:
        self.summary = event["summary"]

    _swarm_stopped = _swarm_finished


def helped(help: dict[str, Any] | None) -> str:
    """What the others changed in the share of right answers, and half the width of its 95% interval
    (`swarm.round.benefit.Help`): against the peer's twin where it has been measured, else by one merge."""
    if not help:
        return "-"
    return f"{help['gain']:+.1%} ±{(help['high'] - help['low']) / 2:.1%}"


def draw(view: View, now: float) -> RenderableType:
    """The screen for a view at a moment (unix seconds)."""
    table = Table(expand=True, box=None, pad_edge=False)
    for title, justify in (
        ("peer", "left"),
        ("round", "right"),
        ("doing", "left"),
        ("left", "right"),
        ("answer", "right"),
        ("critique", "right"),
        ("revise", "right"),
        ("held-out", "right"),
        ("help", "right"),
        ("tok/s", "right"),
        ("points", "right"),
    ):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for peer in view.peers.values():
        table.add_row(
            Text(peer.name, style="bold"),
            f"{peer.ordinal}/{peer.of}" if peer.of else str(peer.ordinal),
            Text(peer.state),
            f"{max(0, peer.until - now):.0f} s" if peer.until else "",
            *[f"{peer.rewards[stage]:.2f}" if stage in peer.rewards else "-" for stage in STAGES],
            _heldout_text(peer),
            helped(peer.twin or peer.help),
            f"{peer.tokens_per_s:.0f}" if peer.tokens_per_s else "-",
            f"{peer.points:.1f}",
        )
    parts: list[RenderableType] = [table]
    others = {peer_id: peer for peer_id, peer in view.here.items() if plain_text(peer["name"], 40) not in view.peers}
    if others:
        names = ", ".join(
            f"{plain_text(peer['name'], 40)} ({plain_text(peer['device'], 30)})" for peer in others.values()
        )
        parts.append(Text(f"also here: {names}", style="cyan"))
    if view.lines:
        parts.append(Text("\n".join(view.lines), style="dim"))
    return Panel(Group(*parts), title=Text(f"swarm {view.swarm}"), border_style="blue")


def outcome(summary: dict[str, Any]) -> RenderableType:
    """What came of a run, as a table."""
    table = Table(title=f"after {summary['rounds']} rounds, {summary['seconds']:.0f} s", box=box.SIMPLE_HEAD, padding=0)
    for title in ("peer", "held-out", "help", "reward", "shared", "fetched", "updates", "points"):
        table.add_column(title, justify="left" if title == "peer" else "right", overflow="fold")
    for peer in summary["peers"]:
        heldout, rewards = peer["heldout"], [reward for reward in peer["reward"] if reward is not None]
        table.add_row(
            Text(plain_text(peer["name"], 40)),
            f"{heldout['before']:.0%}\u2192{heldout['after']:.0%}" if heldout else "-",
            helped(peer.get("twin") or peer.get("help")),
            f"{rewards[0]:.2f}\u2192{rewards[-1]:.2f}" if rewards else "-",
            str(peer["rollouts_published"]),
            str(peer["rollouts_fetched"]),
            str(peer["updates"]),
            f"{peer['points']:.1f}",
        )
    return table


def _heldout_text(peer: PeerView) -> str:
    if peer.first_heldout is None or peer.last_heldout is None:
        return "-"
    return f"{peer.first_heldout:.0%} \u2192 {peer.last_heldout:.0%}"


class Display:
    """A sink for events that draws them; leaving it prints what came of the run."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._view = View()
        self._lock = threading.Lock()
        self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self._draw, redirect_stderr=False)

    def __enter__(self) -> "Display":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._view.summary:
            self._console.print(outcome(self._view.summary))
        if self._view.home:
            self._console.print(Text(f"kept in {self._view.home}"))

    def __call__(self, event: Event) -> None:
        with self._lock:
            new_invite = event["event"] == "invite" and not self._view.invite
            self._view.take(event)
        if new_invite:  # above the frame and unbroken, so that it can be copied
            self._console.print("\n[green]others join this swarm with:[/green]")
            self._console.print(Text(f"python -m swarm.join '{self._view.invite}'\n"), soft_wrap=True)

    def _draw(self) -> RenderableType:
        with self._lock:
            return draw(self._view, time.time())


def main(arguments: Sequence[str] | None = None) -> int:
    """swarm summary FILE: print what came of a run, as the display does at its end."""
    p = argparse.ArgumentParser(prog="swarm summary", description="Print a summary file as a table.")
    p.add_argument("file", type=Path, help="what --summary wrote")
    path = p.parse_args(arguments).file
    try:
        table = outcome(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"swarm: {path} is not a summary as --summary writes it: {error!r}", file=sys.stderr)
        return 2
    Console().print(table)
    return 0
