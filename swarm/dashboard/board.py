"""What the pages show of a swarm, from the journals of one or several of its peers and from the chain.

Everything here is a bounded, plain JSON value; how many rounds a journal holds does not matter to its size.
"""

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from swarm import __version__
from swarm.dashboard.books import RoundBook
from swarm.dashboard.checks import Checks
from swarm.dashboard.curves import MAX_CURVE, STAGES, TRAFFIC, curves_of, mean, means_of, sum_known, thinned
from swarm.dashboard.details import RoundPage
from swarm.dashboard.explorer import EXPLORERS
from swarm.dashboard.history import History, Round, broken_rules
from swarm.dashboard.people import Json, People
from swarm.dashboard.records import equivocations
from swarm.dashboard.watch import Watch
from swarm.identity.key import address_of
from swarm.recipe.seals import prompts_by_seal

MAX_ROWS = 200


class Board:
    """All that is known of one swarm; any thread may ask."""

    def __init__(self, folder: Path, *, explorer: str | None = None, show_paths: bool = False) -> None:
        """
        Args:
            explorer: the address of a block explorer; None for that of a well-known chain.
            show_paths: name homes by their paths: only for people of this machine.
        """
        self._explorer = explorer
        self._show_paths = show_paths
        self.watch = Watch(folder)
        self._people = People(self.watch)

    def start(self) -> None:
        """Read the journals once, then follow them and the chain."""
        self.watch.start()

    def stop(self) -> None:
        self.watch.stop()

    def refresh(self) -> bool:
        """Read what is new in the journals at once; whether anything is."""
        return self.watch.refresh()

    @property
    def listeners(self) -> set[Callable[[list[str]], None]]:
        """Called, from the following threads, with the parts that changed."""
        return self.watch.listeners

    def status(self) -> Json:
        """What goes on now."""
        now = time.time()
        with self.watch.lock:
            return self._status(now)

    def _status(self, now: float) -> Json:
        first = next((h for h in self.watch.histories if h.swarm), None)
        recipe = next((h.recipe for h in self.watch.histories if h.recipe), None)
        place, standing = self.watch.place(), self.watch.standing()
        present = self._people.present(now)
        speeds = [peer["tokens_per_s"] for peer in present if peer["tokens_per_s"]]
        return {
            "swarm": first.swarm if first else None,
            "recipe": {"name": recipe.name, "description": recipe.description} if recipe else None,
            "chain": {
                "rpc_host": place.rpc_host if place else None,
                "contract": place.contract if place else None,
                "chain_id": place.chain_id if place else None,
                "explorer": self._explorer or (EXPLORERS.get(place.chain_id) if place else None),
                "registered_peers": len(standing.registered) if standing.registered is not None else None,
            },
            "homes": [
                {
                    "path_name": history.home.name,
                    "peer_id": history.peer_id,
                    "name": self._people.name(history.peer_id) if history.peer_id else history.home.name,
                    "role": "onlooker" if history.onlooker else "peer",
                    "ok": history.error is None,
                    "error": history.error,
                }
                for history in self.watch.histories
            ],
            "round": self._current_round(),
            "stages": [*STAGES, "update", *(["merge"] if recipe and recipe.merging.rule != "none" else [])],
            **self._stage(now),
            "exchange": self._exchange(now),
            "peers_present": present,
            "tokens_per_s": round(sum(speeds), 1) if speeds else None,
            "traffic": self._traffic(),
            "heldout": self.watch.cached("heldout", self._swarm_heldout, rounds_only=True),
            "epoch": self._epoch(now),
            "stale": self._stale(),
            "reading": [
                {"home": history.home.name, "rounds": len(history.rounds)}
                for history in self.watch.histories
                if history.behind
            ],
            "now": now,
            "live": any(history.is_live(now) for history in self.watch.histories),
            "version": __version__,
        }

    def leaderboard(self) -> Json:
        """All peers, those with the most points first."""
        return self.watch.cached("leaderboard", self._leaderboard)

    def _leaderboard(self) -> Json:
        rows = [self._people.row(peer_id) for peer_id in self._people.everybody()]
        rows.sort(key=lambda row: (-(row["points"] or 0.0), -(row["reward"] or 0.0), row["peer_id"]))
        return {
            "rows": [{"rank": rank, **row} for rank, row in enumerate(rows, start=1)],
            "updated": self._changed_at(),
        }

    def peer(self, peer_id: str) -> Json | None:
        """One peer's page; None for somebody whom no journal names."""
        return self.watch.cached(("peer", peer_id), lambda: self._peer(peer_id))

    def _peer(self, peer_id: str) -> Json | None:
        row = next((row for row in self.leaderboard()["rows"] if row["peer_id"] == peer_id), None)
        if row is None:
            return None
        home, registered = self._people.home(peer_id), self.watch.chain.standing.registered
        rounds = home.rounds[-MAX_ROWS:] if home else []
        return {
            **row,
            "address": _address(peer_id),
            "registered": peer_id in registered if registered is not None else None,
            "registered_command": self._checks().registration(peer_id),
            "rounds": [_played(found) for found in rounds],
            "heldout": [[o, correct, count] for o, _, correct, count in home.heldout][-MAX_CURVE:] if home else [],
            "calibration": self._people.calibration_page(peer_id),
            "records": self._people.records(peer_id),
        }

    def rounds(self, before: int | None, limit: int) -> Json:
        """Rounds that any home has played, the newest first."""
        limit = max(1, min(limit, MAX_ROWS))
        with self.watch.lock:
            numbers: set[int] = set()
            for history in self.watch.histories:
                found = history.rounds
                end = len(found) if before is None else bisect_left(found, before, key=lambda it: it.number)
                numbers.update(it.number for it in found[max(0, end - limit - 1) : end])
            chosen = sorted(numbers, reverse=True)
            return {"rows": [self._round_row(number) for number in chosen[:limit]], "more": len(chosen) > limit}

    def round(self, number: int) -> Json | None:
        """A round in full, as the home that kept most of it has it; None where no home has played it."""
        return self.watch.cached(("round", number), lambda: self._round(number), rounds_only=True)

    def _round(self, number: int) -> Json | None:
        played = [history for history in self.watch.histories if number in history.position and history.recipe]
        if not played:
            return None
        history = max(played, key=lambda it: it.rounds[it.position[number]].report.get("rollouts_fetched", 0))
        assert history.recipe is not None
        book = RoundBook(history, history.rounds[history.position[number]], history.recipe)
        return RoundPage(book, {peer_id: self._people.name(peer_id) for peer_id in book.names()}).page()

    def learning(self) -> Json:
        """Curves over the rounds of every home, and of the swarm as their mean."""
        return self.watch.cached("learning", self._learning, rounds_only=True)

    def _learning(self) -> Json:
        peers = {
            history.peer_id or history.home.name: {
                "name": self._people.name(history.peer_id) if history.peer_id else _unnamed(history),
                **curves_of(history),
            }
            for history in self.watch.histories
            if history.rounds
        }
        return {"peers": peers, "swarm": means_of(list(peers.values()))}

    def trust(self) -> Json:
        """Whether everybody does what they say, as far as the journals and the chain show."""
        return self.watch.cached("trust", self._trust)

    def _trust(self) -> Json:
        audits = sum(judge.calibration.audits for judge in self.watch.judged.values())
        passed = sum(judge.passed for judge in self.watch.judged.values())
        refused: Counter[str] = Counter()
        for history in self.watch.histories:
            refused.update(history.refused)
        checks = self._checks()
        return {
            "audits": {"passed": passed, "failed": audits - passed},
            "refused": dict(refused),
            "not_revealed": sum(history.not_revealed for history in self.watch.histories),
            "sealed": self._sealed(),
            "equivocations": equivocations(self.watch.histories),
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
                    "audit_command": checks.settlement(posted.settlement.epoch),
                }
                for posted in self.watch.standing().settlements
            ],
            "stale": self._stale(),
        }

    # Their parts.

    def _checks(self) -> Checks:
        home = self.watch.histories[0].home if self.watch.histories else self.watch.folder
        return Checks(home, show_path=self._show_paths)

    def _traffic(self) -> Json | None:
        """Bytes that a peer here received and sent in its last round, as the mean; None where no report tells."""
        newest = [history.rounds[-1].report.get("network") or {} for history in self.watch.histories if history.rounds]
        told = {kind: mean(figures.get(kind) for figures in newest) for kind in TRAFFIC}
        return told if any(value is not None for value in told.values()) else None

    def _sealed(self) -> Json | None:
        """How many of the recipe's sealed answers were opened; None where it has none."""
        recipe = next((history.recipe for history in self.watch.histories if history.recipe), None)
        seals = len(prompts_by_seal(recipe)) if recipe else 0
        opened = set[str]().union(*(history.opened for history in self.watch.histories))
        return {"opened": len(opened), "of": seals} if seals else None

    def _round_row(self, number: int) -> Json:
        played = [(h, h.rounds[h.position[number]]) for h in self.watch.histories if number in h.position]
        reports = [found.report for _, found in played]
        return {
            "number": number,
            "ordinal": max(found.ordinal for _, found in played),
            "started": min(found.started for _, found in played),
            "finished": max(found.finished for _, found in played),
            "peers": max(found.report.get("partners", 0) + (not history.onlooker) for history, found in played),
            "reward": mean(report.get("reward") for report in reports),
            "groups_trained": sum_known(report.get("groups_trained") for report in reports),
            "refused": sum(broken_rules(report).total() for report in reports),
        }

    def _current_round(self) -> Json | None:
        begun = [history.latest["round"] for history in self.watch.histories if "round" in history.latest]
        done = [history.rounds[-1] for history in self.watch.histories if history.rounds]
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
            for history in self.watch.histories
            if history.is_live(now)
            for kind in ("stage", "waiting", "measuring", "gathering")
            if (event := history.latest.get(kind))
        ]
        if not news:
            return {"stage": None, "waiting": False, "stage_ends": None}
        _, kind, event = max(news, key=lambda entry: entry[0])
        return {"stage": event.get("stage", kind), "waiting": kind == "waiting", "stage_ends": event.get("until")}

    def _exchange(self, now: float) -> Json | None:
        """Whose records of a stage are being fetched, by the latest word of any home that runs."""
        news = [
            history.latest["announced"]
            for history in self.watch.histories
            if "announced" in history.latest and history.is_live(now)
        ]
        if not news:
            return None
        latest = max(news, key=lambda event: event["at"])
        return {"round": latest["round"], "stage": latest["stage"], "peers": latest["peers"], "at": latest["at"]}

    def _swarm_heldout(self) -> Json | None:
        measured: dict[int, list[float]] = {}
        questions = 0
        for history in self.watch.histories:
            for ordinal, _, correct, count in history.heldout:
                if count:
                    measured.setdefault(ordinal, []).append(correct / count)
                    questions = count
        if not measured:
            return None
        curve = [[ordinal, round(math.fsum(shares) / len(shares), 4)] for ordinal, shares in sorted(measured.items())]
        return {"now": curve[-1][1], "start": curve[0][1], "n": questions, "curve": thinned(curve)}

    def _epoch(self, now: float) -> Json | None:
        standing = self.watch.standing()
        if standing.genesis is None or not standing.epoch_s:
            return None
        settled = [posted.settlement.epoch for posted in standing.settlements if not posted.settlement.frozen]
        number = max(0, int((now - standing.genesis) // standing.epoch_s))
        return {
            "number": number,
            # of a chain that is only remembered nobody knows whether it goes on
            "ends": standing.genesis + (number + 1) * standing.epoch_s if standing.heard is not None else None,
            "last_settled": settled[0] if settled else None,
        }

    def _stale(self) -> list[Json]:
        stale = [
            {"part": f"journal of {history.home.name}", "since": history.error_since, "why": history.error}
            for history in self.watch.histories
            if history.error
        ]
        if not self.watch.histories:
            stale.append(
                {
                    "part": "journal",
                    "since": None,
                    "why": f"there is no journal in {self.watch.folder.name} or right below it",
                }
            )
        if self.watch.chain.standing.error:
            stale.append(
                {
                    "part": "chain",
                    "since": self.watch.chain.standing.away_since,
                    "why": self.watch.chain.standing.error,
                }
            )
        return stale

    def _changed_at(self) -> float | None:
        return max((history.changed_at for history in self.watch.histories), default=None)


def _played(found: Round) -> Json:
    report = found.report
    return {
        "ordinal": found.ordinal,
        "number": found.number,
        **{key: report.get(key) for key in ("reward", "rewards", "points", "updated", "why_nothing", "seconds")},
    }


def _unnamed(history: History) -> str:
    return "mean of all peers" if history.onlooker else history.home.name


def _address(peer_id: str) -> str | None:
    try:
        return address_of(peer_id)
    except ValueError:
        return None
