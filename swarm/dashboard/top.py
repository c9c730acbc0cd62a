"""swarm top: the essentials of a swarm in the terminal, from the same journals as the page."""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from swarm.dashboard.board import Board
from swarm.dashboard.command import folder_of
from swarm.dashboard.terminal import plain_text
from swarm.errors import SwarmError

MAX_ROWS = 40
ONCE_S = 10.0
"""At most, to count everything before drawing once."""
BARS = "▁▂▃▄▅▆▇█"
Json = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Draw until Ctrl-C, or once where the output is no terminal."""
    p = argparse.ArgumentParser(prog="swarm top", description="Show a swarm in the terminal, read-only.")
    p.add_argument("--home", type=Path, metavar="DIR", required=True, help="a peer's folder, or one with several")
    p.add_argument("--once", action="store_true", help="draw once and end")
    options = p.parse_args(arguments)
    try:
        board = Board(folder_of(options.home))
    except SwarmError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    console = Console()
    if options.once or not console.is_terminal:
        until = time.monotonic() + ONCE_S
        while board.refresh() and time.monotonic() < until:
            pass  # points are recounted a little at a time
        console.print(draw(board.status(), board.leaderboard()))
        return 0
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    board.start()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while not stop.is_set():
            live.update(draw(board.status(), board.leaderboard()), refresh=True)
            stop.wait(1.0)
    board.stop()
    return 0


def draw(status: Json, leaderboard: Json) -> RenderableType:
    """The screen, as a pure function of what the API says."""
    table = Table(box=box.SIMPLE, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("peer", overflow="ellipsis", max_width=24)
    for title in ("points", "reward", "held-out", "informedness", "streak", "last rounds"):
        table.add_column(title, justify="left" if title == "last rounds" else "right")
    rows = leaderboard["rows"]
    for row in rows[:MAX_ROWS]:
        table.add_row(
            str(row["rank"]),
            Text(plain_text(row["name"], 40)),
            _number(row["points"], 1),
            _number(row["reward"], 2),
            _gain(row["heldout"]),
            _interval(row["informedness"]),
            str(row["streak"]),
            _spark(row["spark"][-12:]),
        )
    lines = [Text(line) for line in _head(status)]
    more = [Text(f"and {len(rows) - MAX_ROWS} more peers")] if len(rows) > MAX_ROWS else []
    stale = [Text(f"stale: {plain_text(part['part'])}: {plain_text(part['why'])}") for part in status["stale"]]
    reading = [Text(f"reading {plain_text(it['home'])}: {it['rounds']} rounds so far") for it in status["reading"]]
    return Group(*lines, table, *more, *reading, *stale)


def _head(status: Json) -> list[str]:
    recipe = plain_text(status["recipe"]["name"]) if status["recipe"] else "unknown recipe"
    running = "running" if status["live"] else "not running"
    lines = [f"{recipe}  {plain_text(status['swarm'] or '')}  {running}"]
    found = status["round"]
    if found is not None:
        stage = plain_text(status["stage"] or "over", 20)
        ends = status["stage_ends"]
        left = f", {max(0.0, ends - time.time()):.0f} s left" if ends and status["live"] else ""
        waiting = ", waiting for others" if status["waiting"] else ""
        lines.append(f"round {found['ordinal']} (number {found['number']}): {stage}{waiting}{left}")
    heldout = status["heldout"]
    curve = (
        f"held-out {heldout['start']:.0%} → {heldout['now']:.0%} of {heldout['n']}" if heldout else "held-out: not yet"
    )
    speed = f"{status['tokens_per_s']:.0f} tokens/s" if status["tokens_per_s"] else "no tokens now"
    lines.append(f"{len(status['peers_present'])} peers present, {speed}, {curve}")
    epoch = status["epoch"]
    if epoch is not None:
        ends = (
            f"epoch {epoch['number']} ends in {max(0.0, epoch['ends'] - time.time()):.0f} s, " if epoch["ends"] else ""
        )
        settled = (
            "none settled yet" if epoch["last_settled"] is None else f"last settled: epoch {epoch['last_settled']}"
        )
        lines.append(ends + settled)
    return lines


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _gain(heldout: Json | None) -> str:
    return f"{heldout['before']:.0%} → {heldout['after']:.0%}" if heldout else ""


def _interval(judge: Json | None) -> str:
    return f"{judge['value']:+.2f} (> {judge['lower']:+.2f})" if judge else ""


def _spark(values: Sequence[float]) -> str:
    top = max(values, default=0.0)
    return "".join(BARS[min(7, int(8 * max(0.0, value) / top))] if top > 0 else BARS[0] for value in values)
