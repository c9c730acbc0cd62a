"""What the pages show of a swarm, from the journals of one or several of its peers and from the chain.

Everything here is a bounded, plain JSON value; how many rounds a journal holds does not matter to its size.
"""

import logging
import math
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm import __version__
from swarm.dashboard.books import RoundBook
from swarm.dashboard.curves import MAX_CURVE, curves_of, mean, means_of, thinned, tokens_per_s_of
from swarm.dashboard.details import RoundPage
from swarm.dashboard.history import Audits, History, Round, Seen, find_homes
from swarm.dashboard.onchain import ChainWatch, place_of
from swarm.dashboard.records import equivocations, records_of
from swarm.dashboard.recount import Earned, Recount
from swarm.dashboard.settled import SettledPoints
from swarm.identity.key import address_of
from swarm.identity.names import name_of
from swarm.judging.calibration import UNPROVEN, Calibration, calibrate
from swarm.round.clock import Clock
from swarm.settlement.epochs import Epochs

logger = logging.getLogger(__name__)

Json = dict[str, Any]

SPARK = 30
RECENT = 10
MAX_ROWS = 200
MAX_HOMES = 64
MAX_CACHED = 64
BINS = 10
PARTS = ("status", "leaderboard", "rounds", "learning", "trust")
RESCAN_S = 5.0
POLL_S = 1.0


@dataclass(frozen=True)
class Judged:
    """What a judge's audits say: how many there were in all, the fit to the newest, and how many of those it passed."""

    count: int
    calibration: Calibration
    passed: int


class Board:
    """All that is known of one swarm. A thread follows the journals; any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.histories: list[History] = []
        self.lock = threading.RLock()
        self.version = 0
        """Grows with every change."""
        self.listeners: set[Callable[[list[str]], None]] = set()
        """Called, from the following threads, with the parts that changed."""
        self.chain = ChainWatch(self._place, lambda: self._tell(["leaderboard", "status", "trust"]))
        self._judged: dict[str, Judged] = {}
        self._settled_points = SettledPoints()
        self._recount = Recount()
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
        self._judge()
        if self._recount.step(self._fullest()):
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

    def _place(self) -> Any:
        return next((place for history in self.histories if (place := place_of(history.meta))), None)

    def _cached(self, key: Any, make: Callable[[], Any], *, rounds_only: bool = False) -> Any:
        """The value of `make`, made once for a version of the board, or of its rounds."""
        with self.lock:
            stamp = tuple(history.extent for history in self.histories) if rounds_only else self.version
            found = self._cache.get(key)
            if found is None or found[0] != stamp:
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                found = self._cache[key] = (stamp, make())
            return found[1]

    # The pages.

    def status(self) -> Json:
        """What goes on now."""
        now = time.time()
        with self.lock:
            return self._status(now)

    def _status(self, now: float) -> Json:
        first = next((h for h in self.histories if h.swarm), None)
        recipe = next((h.recipe for h in self.histories if h.recipe), None)
        place, standing = self._place(), self.chain.standing
        present = self._present(now)
        speeds = [peer["tokens_per_s"] for peer in present if peer["tokens_per_s"]]
        return {
            "swarm": first.swarm if first else None,
            "recipe": {"name": recipe.name, "description": recipe.description} if recipe else None,
            "chain": {
                "rpc_host": place.rpc_host if place else None,
                "contract": place.contract if place else None,
                "chain_id": place.chain_id if place else None,
                "registered_peers": len(standing.registered) if standing.registered is not None else None,
            },
            "homes": [
                {
                    "path_name": history.home.name,
                    "peer_id": history.peer_id,
                    "name": self._name(history.peer_id) if history.peer_id else history.home.name,
                    "ok": history.error is None,
                    "error": history.error,
                }
                for history in self.histories
            ],
            "round": self._current_round(),
            **self._stage(now),
            "peers_present": present,
            "tokens_per_s": round(sum(speeds), 1) if speeds else None,
            "heldout": self._cached("heldout", self._swarm_heldout, rounds_only=True),
            "epoch": self._epoch(now),
            "stale": self._stale(),
            "now": now,
            "live": any(history.is_live(now) for history in self.histories),
            "version": __version__,
        }

    def leaderboard(self) -> Json:
        """All peers, those with the most points first."""
        return self._cached("leaderboard", self._leaderboard)

    def _leaderboard(self) -> Json:
        rows = [self._row(peer_id) for peer_id in self._everybody()]
        rows.sort(key=lambda row: (-(row["points"] or 0.0), -(row["reward"] or 0.0), row["peer_id"]))
        return {
            "rows": [{"rank": rank, **row} for rank, row in enumerate(rows, start=1)],
            "updated": self._changed_at(),
        }

    def peer(self, peer_id: str) -> Json | None:
        """One peer's page; None for somebody whom no journal names."""
        return self._cached(("peer", peer_id), lambda: self._peer(peer_id))

    def _peer(self, peer_id: str) -> Json | None:
        row = next((row for row in self.leaderboard()["rows"] if row["peer_id"] == peer_id), None)
        if row is None:
            return None
        home, registered = self._home(peer_id), self.chain.standing.registered
        rounds = home.rounds[-MAX_ROWS:] if home else []
        return {
            **row,
            "address": _address(peer_id),
            "registered": peer_id in registered if registered is not None else None,
            "rounds": [_played(found) for found in rounds],
            "heldout": [[o, correct, count] for o, _, correct, count in home.heldout][-MAX_CURVE:] if home else [],
            "calibration": self._calibration_page(peer_id),
            "records": self._records(peer_id),
        }

    def rounds(self, before: int | None, limit: int) -> Json:
        """Rounds that any home has played, the newest first."""
        limit = max(1, min(limit, MAX_ROWS))
        with self.lock:
            numbers: set[int] = set()
            for history in self.histories:
                found = history.rounds
                end = len(found) if before is None else bisect_left(found, before, key=lambda it: it.number)
                numbers.update(it.number for it in found[max(0, end - limit - 1) : end])
            chosen = sorted(numbers, reverse=True)
            return {"rows": [self._round_row(number) for number in chosen[:limit]], "more": len(chosen) > limit}

    def round(self, number: int) -> Json | None:
        """A round in full, as the home that kept most of it has it; None where no home has played it."""
        return self._cached(("round", number), lambda: self._round(number), rounds_only=True)

    def _round(self, number: int) -> Json | None:
        played = [history for history in self.histories if number in history.position and history.recipe]
        if not played:
            return None
        history = max(played, key=lambda it: it.rounds[it.position[number]].report["rollouts_fetched"])
        assert history.recipe is not None
        book = RoundBook(history, history.rounds[history.position[number]], history.recipe)
        return RoundPage(book, {peer_id: self._name(peer_id) for peer_id in book.names()}).page()

    def learning(self) -> Json:
        """Curves over the rounds of every home, and of the swarm as their mean."""
        return self._cached("learning", self._learning, rounds_only=True)

    def _learning(self) -> Json:
        peers = {
            history.peer_id or history.home.name: {
                "name": self._name(history.peer_id) if history.peer_id else history.home.name,
                **curves_of(history),
            }
            for history in self.histories
            if history.rounds
        }
        return {"peers": peers, "swarm": means_of(list(peers.values()))}

    def trust(self) -> Json:
        """Whether everybody does what they say, as far as the journals and the chain show."""
        return self._cached("trust", self._trust)

    def _trust(self) -> Json:
        audits = sum(judge.calibration.audits for judge in self._judged.values())
        passed = sum(judge.passed for judge in self._judged.values())
        refused: Counter[str] = Counter()
        for history in self.histories:
            refused.update(history.refused)
        home = self.histories[0].home if self.histories else self.folder
        return {
            "audits": {"passed": passed, "failed": audits - passed},
            "refused": dict(refused),
            "not_revealed": None,
            "equivocations": equivocations(self.histories),
            "settlements": [
                {
                    "epoch": posted.settlement.epoch,
                    "state": posted.state,
                    "root": "0x" + posted.settlement.outcome.root.hex(),
                    "data_hash": posted.settlement.outcome.data_hash.hex(),
                    "total": posted.settlement.outcome.total / 1e6,
                    "posted_at": posted.settlement.posted_at,
                    "frozen": posted.settlement.frozen,
                    "signers": posted.signers,
                    "transaction": posted.transaction,
                    "audit_command": f"python -m swarm audit {posted.settlement.epoch} --home {home.name}",
                }
                for posted in self.chain.standing.settlements
            ],
            "stale": self._stale(),
        }

    # Who is who.

    def _home(self, peer_id: str) -> History | None:
        return next((history for history in self.histories if history.peer_id == peer_id), None)

    def _everybody(self) -> list[str]:
        found: dict[str, None] = {}
        for history in self.histories:
            if history.peer_id:
                found[history.peer_id] = None
            found.update(dict.fromkeys(history.latest.get("peers", {}).get("peers", {})))
            found.update(dict.fromkeys(history.seen))
        return list(found)

    def _about(self, peer_id: str) -> Json:
        """Name, model, device and speed as the peer, or its last heartbeat, said."""
        home = self._home(peer_id)
        if home is not None:
            model = home.latest.get("model", {})
            return {
                "name": home.latest["identity"]["peer"],
                "model": model.get("model"),
                "device": model.get("device"),
                "tokens_per_s": tokens_per_s_of(home.rounds[-1].report) if home.rounds else None,
            }
        heard = [
            (history.latest["peers"]["at"], history.latest["peers"]["peers"][peer_id])
            for history in self.histories
            if peer_id in history.latest.get("peers", {}).get("peers", {})
        ]
        about = max(heard, key=lambda entry: entry[0])[1] if heard else {}
        return {
            "name": about.get("name") or name_of(peer_id),
            "model": about.get("model"),
            "device": about.get("device"),
            "tokens_per_s": about.get("tokens_per_s") or None,
        }

    def _name(self, peer_id: str) -> str:
        return str(self._about(peer_id)["name"])

    def _present(self, now: float) -> list[Json]:
        here: dict[str, None] = {}
        for history in self.histories:
            if history.is_live(now):
                here.update(dict.fromkeys([history.peer_id] if history.peer_id else []))
                here.update(dict.fromkeys(history.latest.get("peers", {}).get("peers", {})))
        return [{"peer_id": peer_id, **self._about(peer_id), "role": "learner"} for peer_id in here]

    # Rows.

    def _row(self, peer_id: str) -> Json:
        home, about, calibration = self._home(peer_id), self._about(peer_id), self._calibration(peer_id)
        seen = max((h.seen[peer_id] for h in self.histories if peer_id in h.seen), key=_announced, default=None)
        heldout = [correct / count for _, _, correct, count in home.heldout if count] if home else []
        earned = _own(home) if home else self._recounted(peer_id)
        settled, pending = self._settled().get(peer_id), self._pending(peer_id)
        known = [part for part in (settled, pending) if part is not None]
        return {
            "peer_id": peer_id,
            "name": about["name"],
            "model": about["model"] or next((it.model for it in reversed(earned) if it and it.model), None),
            "device": about["device"],
            "points": round(math.fsum(known), 6) if known else None,
            "settled": settled,
            "pending": pending,
            "reward": mean(it.reward if it else None for it in earned[-RECENT:]),
            "heldout": {"before": round(heldout[0], 4), "after": round(heldout[-1], 4)} if heldout else None,
            "informedness": {
                "value": round(calibration.informedness, 4),
                "lower": round(calibration.lower, 4),
                "audits": self._audits(peer_id).count,
            }
            if calibration.audits
            else None,
            "critiques": home.criticised if home else self._audits(peer_id).items,
            "share_audited": round(seen.held / seen.announced, 4) if seen else None,
            "streak": self._streak(seen),
            "tokens_per_kwh": None,
            "spark": [round(it.points, 3) if it else 0.0 for it in earned],
        }

    def _recounted(self, peer_id: str) -> list[Earned | None]:
        """What a peer without a journal here earned in the newest rounds; empty where nothing of it is counted."""
        history = self._fullest()
        earned = self._recount.of(peer_id, [found.number for found in history.rounds[-SPARK:]]) if history else []
        return earned if any(earned) else []

    def _pending(self, peer_id: str) -> float | None:
        """Points since the newest settlement; None where not all of those rounds are counted."""
        home = self._home(peer_id)
        if home is not None:
            since = self._unsettled_from()
            return round(math.fsum(it.report["points"] for it in home.rounds if it.number >= since), 6)
        numbers = self._cached("unsettled", self._unsettled)
        if numbers is None:
            return None
        return round(math.fsum(it.points for it in self._recount.of(peer_id, numbers) if it), 6)

    def _unsettled(self) -> list[int] | None:
        """The rounds that no settlement holds; None where there are none, or not all are counted."""
        history, since = self._fullest(), self._unsettled_from()
        if history is None or not history.rounds:
            return None
        numbers = [found.number for found in history.rounds if found.number >= since]
        return numbers if self._recount.counted(numbers) else None

    def _unsettled_from(self) -> int:
        """The first round that no settlement holds."""
        standing = self.chain.standing
        recipe = next((history.recipe for history in self.histories if history.recipe), None)
        settled = next((posted.settlement for posted in standing.settlements if not posted.settlement.frozen), None)
        if settled is None or recipe is None or standing.genesis is None or standing.epoch_s is None:
            return 0
        return Epochs(Clock(standing.genesis, recipe.timing), standing.epoch_s).rounds(0, settled.epoch).stop

    def _fullest(self) -> History | None:
        """The journal with the most rounds."""
        return max(self.histories, key=lambda history: len(history.rounds), default=None)

    def _streak(self, seen: Seen | None) -> int:
        if seen is None:
            return 0
        newest = max((history.rounds[-1].number for history in self.histories if history.rounds), default=0)
        return seen.streak if seen.last >= newest else 0

    def _round_row(self, number: int) -> Json:
        played = [(h, h.rounds[h.position[number]]) for h in self.histories if number in h.position]
        reports = [found.report for _, found in played]
        return {
            "number": number,
            "ordinal": max(found.ordinal for _, found in played),
            "started": min(found.started for _, found in played),
            "finished": max(found.finished for _, found in played),
            "peers": max(report["partners"] + 1 for report in reports),
            "reward": mean(report["reward"] for report in reports),
            "groups_trained": sum(report["groups_trained"] for report in reports),
            "refused": sum(sum(report["refused"].values()) for report in reports),
        }

    def _records(self, peer_id: str) -> list[Json]:
        history = max(
            (history for history in self.histories if peer_id in history.seen),
            key=lambda history: history.seen[peer_id].announced,
            default=None,
        )
        return records_of(history, peer_id) if history else []

    # Judges.

    def _audits(self, judge: str) -> Audits:
        """Of several journals' audits of one judge, which overlap, the fullest."""
        found = [history.audits[judge] for history in self.histories if judge in history.audits]
        return max(found, key=lambda audits: audits.count, default=Audits())

    def _judge(self) -> None:
        """Fit the judges that have new audits."""
        with self.lock:
            all_audits = {judge: self._audits(judge) for history in self.histories for judge in history.audits}
            new = {
                judge: (audits.count, list(audits.newest))
                for judge, audits in all_audits.items()
                if judge not in self._judged or self._judged[judge].count != audits.count
            }
        for judge, (count, newest) in new.items():
            calibration = calibrate(newest)
            passed = sum((calibration.probability(raw) >= 0.5) == truth for raw, truth in newest)
            self._judged[judge] = Judged(count, calibration, passed)

    def _calibration(self, judge: str) -> Calibration:
        return self._judged[judge].calibration if judge in self._judged else UNPROVEN

    def _calibration_page(self, judge: str) -> Json:
        calibration = self._calibration(judge)
        bins: list[list[bool]] = [[] for _ in range(BINS)]
        for raw, truth in self._audits(judge).newest:
            bins[min(BINS - 1, int(calibration.probability(raw) * BINS))].append(truth)
        return {
            "bins": [
                [round((place + 0.5) / BINS, 3), round(sum(found) / len(found), 4), len(found)]
                for place, found in enumerate(bins)
                if found
            ],
            "slope": round(calibration.slope, 4),
            "intercept": round(calibration.intercept, 4),
            "audits": calibration.audits,
        }

    # The swarm as a whole.

    def _current_round(self) -> Json | None:
        begun = [history.latest["round"] for history in self.histories if "round" in history.latest]
        done = [history.rounds[-1] for history in self.histories if history.rounds]
        news = max(begun, key=lambda event: (event["round"], event["at"]), default=None)
        last = max(done, key=lambda found: found.number, default=None)
        if news is not None and (last is None or news["round"] >= last.number):
            finished = last.finished if last is not None and last.number == news["round"] else None
            return {
                "number": news["round"],
                "ordinal": news["ordinal"],
                "started": news["at"],
                "finished": finished,
                "ends": news["ends"],
            }
        if last is None:
            return None
        return {
            "number": last.number, "ordinal": last.ordinal, "started": last.started, "finished": last.finished,
            "ends": last.finished,
        }  # fmt: skip

    def _stage(self, now: float) -> Json:
        """The latest known stage of any home that runs, whether that peer waits for others, and until when at most."""
        news = [
            (event["at"], kind, event)
            for history in self.histories
            if history.is_live(now)
            for kind in ("stage", "waiting", "measuring", "gathering")
            if (event := history.latest.get(kind))
        ]
        if not news:
            return {"stage": None, "waiting": False, "stage_ends": None}
        _, kind, event = max(news, key=lambda entry: entry[0])
        return {"stage": event.get("stage", kind), "waiting": kind == "waiting", "stage_ends": event.get("until")}

    def _swarm_heldout(self) -> Json | None:
        measured: dict[int, list[float]] = {}
        questions = 0
        for history in self.histories:
            for ordinal, _, correct, count in history.heldout:
                if count:
                    measured.setdefault(ordinal, []).append(correct / count)
                    questions = count
        if not measured:
            return None
        curve = [[ordinal, round(math.fsum(shares) / len(shares), 4)] for ordinal, shares in sorted(measured.items())]
        return {"now": curve[-1][1], "start": curve[0][1], "n": questions, "curve": thinned(curve)}

    def _epoch(self, now: float) -> Json | None:
        standing = self.chain.standing
        if standing.genesis is None or not standing.epoch_s:
            return None
        number = max(0, int((now - standing.genesis) // standing.epoch_s))
        settled = [posted.settlement.epoch for posted in standing.settlements if not posted.settlement.frozen]
        return {
            "number": number,
            "ends": standing.genesis + (number + 1) * standing.epoch_s,
            "last_settled": settled[0] if settled else None,
        }

    def _settled(self) -> dict[str, float]:
        """Cumulative settled points by peer, from the newest settlement whose statement a journal has."""
        standing = self.chain.standing
        hashes = [p.settlement.outcome.data_hash.hex() for p in standing.settlements if not p.settlement.frozen]
        return self._settled_points.of(hashes, self.histories)

    def _stale(self) -> list[Json]:
        stale = [
            {"part": f"journal of {history.home.name}", "since": history.error_since, "why": history.error}
            for history in self.histories
            if history.error
        ]
        stale += [
            {
                "part": f"journal of {history.home.name}",
                "since": None,
                "why": f"it is being read, {len(history.rounds)} rounds so far",
            }
            for history in self.histories
            if history.behind
        ]
        if not self.histories:
            stale.append(
                {
                    "part": "journal",
                    "since": None,
                    "why": f"there is no journal in {self.folder.name} or right below it",
                }
            )
        if self.chain.standing.error:
            stale.append({"part": "chain", "since": self.chain.standing.away_since, "why": self.chain.standing.error})
        return stale

    def _changed_at(self) -> float | None:
        return max((history.changed_at for history in self.histories), default=None)


def _own(home: History) -> list[Earned | None]:
    """What a peer's own journal says of its newest rounds."""
    return [Earned(it.report["points"], it.report["reward"], "") for it in home.rounds[-SPARK:]]


def _played(found: Round) -> Json:
    report = found.report
    return {
        "ordinal": found.ordinal,
        "number": found.number,
        "reward": report["reward"],
        "rewards": report["rewards"],
        "points": report["points"],
        "updated": report["updated"],
        "why_nothing": report["why_nothing"],
        "seconds": report["seconds"],
    }


def _announced(seen: Seen) -> int:
    return seen.announced


def _address(peer_id: str) -> str | None:
    try:
        return address_of(peer_id)
    except ValueError:
        return None
