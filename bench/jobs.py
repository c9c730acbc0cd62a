"""Many independent runs on many cores, each kept as a JSON line as soon as it is done."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from bench.machine import end_with_parent

Case = TypeVar("Case")
Row = dict[str, Any]


def rows_of(lines: Path) -> list[Row]:
    """What is there already."""
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []


def finish(todo: Sequence[Case], work: Callable[[Case], Row], lines: Path, *, jobs: int, minutes: float) -> None:
    """Run `work` on every case in `jobs` processes, and append each result to `lines`.

    Args:
        work: a function that a new process can import.
        minutes: what has not begun by then is left out.
    """
    deadline = time.monotonic() + 60 * minutes
    waiting = list(todo)
    running: set[Future[Row]] = set()
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=end_with_parent) as pool, lines.open("a") as out:
        while waiting or running:
            while waiting and len(running) < jobs and time.monotonic() < deadline:
                running.add(pool.submit(work, waiting.pop(0)))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                row = future.result()
                out.write(json.dumps(row) + "\n")
                out.flush()
                left = len(waiting) + len(running)
                print(f"{left:4} left; done: {json.dumps(row)[:150]}", flush=True)
