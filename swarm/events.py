"""What a running peer tells whoever watches: one JSON object per event, and the two sinks that take them.

Every event has `at` (unix seconds), `event` (its kind) and `peer` (the name of the peer it is about). The kinds and
their fields are listed in docs/events.md.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

Event = dict[str, Any]
Sink = Callable[[Event], None]


class Emitter:
    """Stamps events and hands them to its sinks. Safe to call from several threads."""

    def __init__(self, sink: Sink, peer: str) -> None:
        self._sinks: tuple[Sink, ...] = (sink,)
        self.peer = peer

    def __call__(self, kind: str, **fields: Any) -> None:
        event = {"at": round(time.time(), 3), "event": kind, "peer": self.peer, **fields}
        for sink in self._sinks:
            sink(event)

    @contextmanager
    def also(self, sink: Sink) -> Iterator[None]:
        """Hand events to another sink too, until the end of the block."""
        before = self._sinks
        self._sinks = (*before, sink)
        try:
            yield
        finally:
            self._sinks = before


class PlainSink:
    """One JSON object per line, for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            try:
                self._stream.write(json.dumps(event, ensure_ascii=True, separators=(",", ":")) + "\n")
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                pass  # nobody reads any more: training goes on, and the journal has it all
