"""The peers of a swarm, as its journals and the chain show them."""

import math
from typing import Any

from swarm.dashboard.curves import mean, tokens_per_s_of
from swarm.dashboard.history import History, Seen
from swarm.dashboard.records import records_of
from swarm.dashboard.recount import Earned
from swarm.dashboard.settled import SettledPoints
from swarm.dashboard.watch import Watch
from swarm.identity.names import name_of
from swarm.round.clock import Clock
from swarm.settlement.epochs import Epochs

Json = dict[str, Any]

SPARK = 30
RECENT = 10
BINS = 10


class People:
    """Who there is, what they said of themselves, and what they earned. Ask with the watch's lock held."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._settled_points = SettledPoints()

    def home(self, peer_id: str) -> History | None:
        return next((history for history in self._watch.histories if history.peer_id == peer_id), None)

    def everybody(self) -> list[str]:
        found: dict[str, None] = {}
        for history in self._watch.histories:
            if history.peer_id:
                found[history.peer_id] = None
            found.update(dict.fromkeys(history.latest.get("peers", {}).get("peers", {})))
            found.update(dict.fromkeys(history.seen))
        found.update(dict.fromkeys(self._settled()))
        return list(found)

    def _about(self, peer_id: str) -> Json:
        """Name, model, device and speed as the peer, or its last heartbeat, said."""
        home = self.home(peer_id)
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
            for history in self._watch.histories
            if peer_id in history.latest.get("peers", {}).get("peers", {})
        ]
        about = max(heard, key=lambda entry: entry[0])[1] if heard else {}
        return {
            "name": about.get("name") or name_of(peer_id),
            "model": about.get("model"),
            "device": about.get("device"),
            "tokens_per_s": about.get("tokens_per_s") or None,
        }

    def name(self, peer_id: str) -> str:
        return str(self._about(peer_id)["name"])

    def present(self, now: float) -> list[Json]:
        here: dict[str, None] = {}
        for history in self._watch.histories:
            if history.is_live(now):
                here.update(dict.fromkeys([history.peer_id] if history.peer_id else []))
                here.update(dict.fromkeys(history.latest.get("peers", {}).get("peers", {})))
        return [{"peer_id": peer_id, **self._about(peer_id), "role": self._role(peer_id)} for peer_id in here]

    def _role(self, peer_id: str) -> str | None:
        """What a peer says that it is; else by its newest records: who criticises and does not answer only judges."""
        said = [history.latest.get("peers", {}).get("peers", {}).get(peer_id, {}) for history in self._watch.histories]
        role = next((str(about["role"]) for about in said if about.get("role")), None)
        seen = self._seen(peer_id)
        if role is not None or seen is None:
            return role
        return "judge" if seen.judged > seen.last else "learner"

    def _seen(self, peer_id: str) -> Seen | None:
        """Of several journals, what the one with most of a peer has."""
        return max((h.seen[peer_id] for h in self._watch.histories if peer_id in h.seen), key=_announced, default=None)

    def row(self, peer_id: str) -> Json:
        home, about, calibration = self.home(peer_id), self._about(peer_id), self._watch.calibration(peer_id)
        seen = self._seen(peer_id)
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
                "audits": self._watch.audits_of(peer_id).count,
            }
            if calibration.audits
            else None,
            "critiques": home.criticised if home else self._watch.audits_of(peer_id).items,
            "share_audited": round(seen.held / seen.announced, 4) if seen else None,
            "streak": self._streak(seen),
            "tokens_per_kwh": home.tokens_per_kwh if home else None,
            "spark": [round(it.points, 3) if it else 0.0 for it in earned],
        }

    def _recounted(self, peer_id: str) -> list[Earned | None]:
        """What a peer without a journal here earned in the newest rounds; empty where nothing of it is counted."""
        history = self._watch.fullest()
        newest = [found.number for found in history.rounds[-SPARK:]] if history else []
        counted = [number for number in newest if self._watch.recount.counted([number])]
        earned = self._watch.recount.of(peer_id, counted)
        return earned if any(earned) else []

    def _pending(self, peer_id: str) -> float | None:
        """Points since the newest settlement; None where not all of those rounds are counted."""
        home = self.home(peer_id)
        if home is not None:
            since = self._unsettled_from()
            return round(math.fsum(it.report.get("points", 0.0) for it in home.rounds if it.number >= since), 6)
        numbers = self._watch.cached("unsettled", self._unsettled)
        if numbers is None:
            return None
        return round(math.fsum(it.points for it in self._watch.recount.of(peer_id, numbers) if it), 6)

    def _unsettled(self) -> list[int] | None:
        """The rounds that no settlement holds; None where there are none, or not all are counted."""
        history, since = self._watch.fullest(), self._unsettled_from()
        if history is None or not history.rounds:
            return None
        numbers = [found.number for found in history.rounds if found.number >= since]
        return numbers if self._watch.recount.counted(numbers) else None

    def _unsettled_from(self) -> int:
        """The first round that no settlement holds."""
        standing = self._watch.standing()
        recipe = next((history.recipe for history in self._watch.histories if history.recipe), None)
        settled = next((posted.settlement for posted in standing.settlements if not posted.settlement.frozen), None)
        if settled is None or recipe is None or standing.genesis is None or standing.epoch_s is None:
            return 0
        return Epochs(Clock(standing.genesis, recipe.timing), standing.epoch_s).rounds(0, settled.epoch).stop

    def _streak(self, seen: Seen | None) -> int:
        if seen is None:
            return 0
        newest = max((history.rounds[-1].number for history in self._watch.histories if history.rounds), default=0)
        return seen.streak if seen.last >= newest else 0

    def records(self, peer_id: str) -> list[Json]:
        history = max(
            (history for history in self._watch.histories if peer_id in history.seen),
            key=lambda history: history.seen[peer_id].announced,
            default=None,
        )
        return records_of(history, peer_id) if history else []

    def _settled(self) -> dict[str, float]:
        """Cumulative settled points by peer, from the newest settlement whose statement a journal has."""
        standing = self._watch.standing()
        hashes = [p.settlement.outcome.data_hash.hex() for p in standing.settlements if not p.settlement.frozen]
        return self._settled_points.of(hashes, self._watch.histories)

    def calibration_page(self, judge: str) -> Json:
        calibration = self._watch.calibration(judge)
        bins: list[list[bool]] = [[] for _ in range(BINS)]
        for raw, truth in self._watch.audits_of(judge).newest:
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


def _own(home: History) -> list[Earned | None]:
    """What a peer's own journal says of its newest rounds."""
    return [Earned(it.report.get("points", 0.0), it.report.get("reward"), "") for it in home.rounds[-SPARK:]]


def _announced(seen: Seen) -> int:
    return seen.announced
