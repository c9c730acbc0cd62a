"""The journals and the chain of one swarm, followed: what is new is read, judges are fitted, points are recounted."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swarm.dashboard.history import Audits, History, find_homes
from swarm.dashboard.onchain import ChainWatch, Standing, place_of
from swarm.dashboard.recount import Recount
from swarm.dashboard.remembered import remembered
from swarm.judging.calibration import UNPROVEN, Calibration, calibrate

logger = logging.getLogger(__name__)

MAX_HOMES = 64
MAX_CACHED = 64
PARTS = ("status", "leaderboard", "rounds", "learning", "trust")
RESCAN_S = 5.0
POLL_S = 1.0


@dataclass(frozen=True)
class Judged:
    """What a judge's audits say: how many there were in all, the fit to the newest, and how many of those it passed."""

    count: int
    calibration: Calibration
    passed: int


class Watch:
    """A thread follows the journals, another one the chain; any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.histories: list[History] = []
        self.lock = threading.RLock()
        self.version = 0
        """Grows with every change."""
        self.listeners: set[Callable[[list[str]], None]] = set()
        """Called, from the following threads, with the parts that changed."""
        self.chain = ChainWatch(self.place, lambda: self._tell(["leaderboard", "status", "trust"]))
        self.judged: dict[str, Judged] = {}
        self.recount = Recount()
        self._cache: dict[Any, tuple[Any, Any]] = {}
        self._stop = threading.Event()
        self._scanned = 0.0

    def start(self) -> None:
        """Read the journals once, then follow them and the chain."""
        self.refresh()
        threading.Thread(target=self._follow, name="journal-watch", daemon=True).start()
        self.chain.start()

    def stop(self) -> None:
        self._stop.set()
        self.chain.stop()
        with self.lock:
            for history in self.histories:
                history.close()

    def refresh(self) -> bool:
        """Read what is new in the journals, and tell the listeners which parts changed. Whether any did."""
        self._scan()
        parts: set[str] = set()
        for history in self.histories:
            before, more = history.extent, True
            while more and not self._stop.is_set():
                with self.lock:
                    if history.refresh():
                        parts |= set(PARTS) if history.extent != before else {"status"}
                    more = history.behind
                time.sleep(0)  # a lock that is taken again at once is never another's
        self._fit()
        if self.recount.step(self.fullest()):
            parts |= {"leaderboard"}
        if parts:
            self._tell(sorted(parts))
        return bool(parts)

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                self.refresh()
            except Exception:
                logger.exception("the journals could not be followed, which is tried again")

    def _scan(self) -> None:
        now = time.monotonic()
        if self.histories and now - self._scanned < RESCAN_S:
            return
        self._scanned = now
        known = {history.home for history in self.histories}
        new = [History(home) for home in find_homes(self.folder) if home not in known]
        with self.lock:
            self.histories = (self.histories + new)[:MAX_HOMES]

    def _tell(self, parts: list[str]) -> None:
        self.version += 1
        for listener in list(self.listeners):
            listener(parts)

    def place(self) -> Any:
        return next((place for history in self.histories if (place := place_of(history.meta))), None)

    def standing(self) -> Standing:
        """What the chain says; what the journals remember of it, where it has not answered yet."""
        heard = self.chain.standing
        if heard.heard is not None:
            return heard
        known = self.cached("remembered", lambda: remembered(self.histories), rounds_only=True)
        return replace(known, error=heard.error, away_since=heard.away_since)

    def cached(self, key: Any, make: Callable[[], Any], *, rounds_only: bool = False) -> Any:
        """The value of `make`, made once for a version of the board, or of its rounds."""
        with self.lock:
            stamp = tuple(history.extent for history in self.histories) if rounds_only else self.version
            found = self._cache.get(key)
            if found is None or found[0] != stamp:
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                found = self._cache[key] = (stamp, make())
            return found[1]

    def fullest(self) -> History | None:
        """The journal with the most rounds."""
        return max(self.histories, key=lambda history: len(history.rounds), default=None)

    def audits_of(self, judge: str) -> Audits:
        """Of several journals' audits of one judge, which overlap, the fullest."""
        found = [history.audits[judge] for history in self.histories if judge in history.audits]
        return max(found, key=lambda audits: audits.count, default=Audits())

    def _fit(self) -> None:
        """Fit the judges that have new audits."""
        with self.lock:
            all_audits = {judge: self.audits_of(judge) for history in self.histories for judge in history.audits}
            new = {
                judge: (audits.count, list(audits.newest))
                for judge, audits in all_audits.items()
                if judge not in self.judged or self.judged[judge].count != audits.count
            }
        for judge, (count, newest) in new.items():
            calibration = calibrate(newest)
            passed = sum((calibration.probability(raw) >= 0.5) == truth for raw, truth in newest)
            self.judged[judge] = Judged(count, calibration, passed)

    def calibration(self, judge: str) -> Calibration:
        return self.judged[judge].calibration if judge in self.judged else UNPROVEN
