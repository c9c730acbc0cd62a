"""Writes a finished round to the disk while the peer measures itself or waits for others."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Committer:
    """One commit at a time, in a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "commit")
        self._running: Future[None] | None = None

    def start(self, commit: Callable[[], None]) -> None:
        """Begin a commit, after the one before is done; raises what that one raised."""
        self.join()
        self._running = self._thread.submit(commit)

    def join(self) -> None:
        """Wait for the commit that was begun; raises what it raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Finish what was begun, without a word about how it went."""
        self._thread.shutdown(wait=True)
