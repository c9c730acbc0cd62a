"""Weights of peers that train the same model: published, fetched, checked and merged at the end of a round.

Everything is pulled and nothing is agreed on beforehand: a peer takes what is there when it looks, any number may be
missing, and every wait has a deadline. The rules on tensors are in `swarm/training/merging.py`.
"""

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from swarm.network.blobs import MAX_BLOB_BYTES, BlobRef
from swarm.network.node import Network
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task, derive_tasks
from swarm.recipe.verifiers import has_truth
from swarm.round.assignment import draw
from swarm.round.benefit import estimate
from swarm.round.clock import Clock, lifetime_s
from swarm.round.exchange import POLL_S, logger
from swarm.round.trial import Trial
from swarm.round.wire import NOT_DELIVERED, Digest, RecordRefused, Wire, note_bytes, read_note
from swarm.training.learner import Learner
from swarm.training.merging import Delta, Stride, decode, encode, learning_rate, max_blob_bytes, merge, steps
from swarm.training.wire import WeightsRefused

SLOT = "merge"
"""One slot for all rounds, so that whoever comes late finds the latest weights of everybody."""
MAX_FETCH_S = 40.0
FETCH_SHARE = 0.2
"""Seconds to fetch weights, as a share of the round, up to MAX_FETCH_S."""


class MergeNote(Wire):
    """The value of the announcement of a peer's weights."""

    round: Annotated[int, Field(ge=0, lt=2**53)]
    origin: Digest
    """Of the weights from which the delta is measured."""
    updates: Annotated[int, Field(ge=0, lt=2**53)]
    """0: nothing learnt so far, so there is nothing to fetch."""
    sha256: Digest
    size: Annotated[int, Field(gt=0, le=MAX_BLOB_BYTES)]


@dataclass
class MergeReport:
    """What came of one merge."""

    merged: int = 0
    """Peers whose weights are in this one's now."""
    merge_refused: dict[str, int] = field(default_factory=dict)
    """Weights of others that were not taken, by reason."""
    staleness_s: float | None = None
    """Mean seconds from the start of the round that the merged weights come from to that of this one; None where none
    were merged."""
    merge_gain: float | None = None
    """Change of the share of fresh questions answered right, kept or not; None where none was asked."""
    help: dict[str, Any] | None = None
    """`swarm.round.benefit.Help` over all merges so far."""


class Merger:
    """One peer's side of merging."""

    def __init__(
        self,
        *,
        peer_id: str,
        recipe: Recipe,
        clock: Clock,
        learner: Learner,
        network: Network,
        gains: Sequence[float] = (),
    ) -> None:
        """`gains`: `merge_gain` of all earlier rounds of this peer."""
        self._peer_id = peer_id
        self._recipe = recipe
        self._clock = clock
        self._learner = learner
        self._network = network
        self._gains = list(gains)
        self._secret = os.urandom(16)  # nobody can prepare weights for questions that only this peer can foresee
        self._stride = Stride()
        if self._active:
            self._stride.leave(learner.delta())
        self._published: BlobRef | None = None
        self.partners: frozenset[str] = frozenset()
        """Peers whose weights came into this one's at the last merge."""
        self.steps = 1
        """Of the next update."""
        self._silent: set[str] = set()
        """Peers of the same model that were waited for in vain and have not been heard since."""

    @property
    def why_not(self) -> str | None:
        """Why this peer merges with nobody although the recipe asks for it; None where it does what the recipe says."""
        if self._recipe.merging.rule == "none" or self._learner.origin is not None:
            return None
        return (
            f"the {self._learner.trained_weights:,} weights that are trained here are too many to be sent; "
            "with LoRA (model.lora in the recipe) they would be merged with those of others"
        )

    def due(self, ordinal: int) -> bool:
        """Whether this peer merges at the end of its round `ordinal`."""
        return self._active and ordinal % self._recipe.merging.every == 0

    def run(self, number: int, seed: bytes, alike: Callable[[], Set[str]], rewards: Mapping[str, float]) -> MergeReport:
        """Publish, wait for those who are expected, merge, and set learning rate and steps for what comes.

        Args:
            alike: the live peers that seem to train the same model, asked again while waiting.
            rewards: mean rewards in this round as recomputed here, by peer, this one included.
        """
        self._publish(number)
        until = self._clock.end(number) - self._fetch_s

        def expected() -> Set[str]:
            return alike() - self._silent - {self._peer_id}

        trial = Trial(self._learner, self._recipe, self._questions(number))
        if expected():
            trial.before()  # while the others get ready
        notes = self._wait(number, expected, until)
        here = {peer for peer, note in notes.items() if note.round >= number}
        self._silent = (self._silent | alike()) - here
        return self._take(number, seed, notes, rewards, trial, keep_own=self._learner.updates > 0)

    def catch_up(self, number: int) -> MergeReport | None:
        """Before the first round of a run: start from what the others have, if they have made twice as many updates.

        None where there is nobody to catch up with.
        """
        if not self._active:
            return None
        notes = {peer: note for peer, note in self._notes(number).items() if note.updates}
        if not notes or 2 * self._learner.updates >= statistics.median(note.updates for note in notes.values()):
            return None
        trial = Trial(self._learner, self._recipe, self._questions(number))
        return self._take(number, b"catch up", notes, {}, trial, keep_own=False)

    def _publish(self, number: int) -> None:
        assert self._learner.origin is not None
        self._published = self._network.put(encode(self._learner.delta()))
        note = MergeNote(
            round=number,
            origin=self._learner.origin,
            updates=self._learner.updates,
            sha256=self._published.sha256,
            size=self._published.size,
        )
        self._network.announce(SLOT, note_bytes(note), lifetime_s(self._recipe.timing))

    def _wait(self, number: int, expected: Callable[[], Set[str]], until: float) -> dict[str, MergeNote]:
        while True:
            notes = self._notes(number)
            if all(peer in notes and notes[peer].round >= number for peer in expected()) or time.time() >= until:
                return notes
            time.sleep(max(0.0, min(POLL_S, until - time.time())))

    def _notes(self, number: int) -> dict[str, MergeNote]:
        """The latest note of every other peer with the same origin that is fresh enough."""
        try:
            announcements = self._network.read(SLOT)
        except (TimeoutError, OSError, RuntimeError) as error:
            logger.warning("the announcements of weights were not read: %r", error)
            return {}
        notes: dict[str, MergeNote] = {}
        self._malformed: Counter[str] = Counter()
        for peer_id, announcement in announcements.items():
            if peer_id == self._peer_id:
                continue
            try:
                note = read_note(MergeNote, announcement.value)
            except RecordRefused as error:
                self._malformed[error.reason] += 1
                continue
            if note.origin != self._learner.origin:
                self._malformed["another model"] += 1
            elif not self._fresh(note.round, number):
                self._malformed["stale"] += 1
            else:
                notes[peer_id] = note
        return notes

    def _fresh(self, published: int, number: int) -> bool:
        """Whether weights of one round may be merged in another: not too old, and not from the future."""
        timing = self._recipe.timing
        oldest = self._clock.start(number) - self._recipe.merging.stale_rounds * timing.round_s
        return oldest <= self._clock.start(published) <= self._clock.start(number) + timing.round_s

    def _take(
        self,
        number: int,
        seed: bytes,
        notes: Mapping[str, MergeNote],
        rewards: Mapping[str, float],
        trial: Trial,
        *,
        keep_own: bool,
    ) -> MergeReport:
        settings = self._recipe.merging
        own = self._learner.delta()
        refused = Counter(self._malformed)
        taught = (peer for peer, note in notes.items() if note.updates)
        drawn = sorted(taught, key=lambda peer: draw(seed, "merge", self._peer_id, peer))[: settings.fetch_peers]
        deltas = self._fetch({peer: notes[peer] for peer in drawn}, own, refused)
        others = {peer: reward for peer, reward in rewards.items() if peer in deltas}
        self._stride.arrive(own)
        merged = merge(
            settings.rule,
            own if keep_own else None,
            deltas,
            others,
            rewards.get(self._peer_id, 0.0),
            self._stride.length,
        )
        refused += merged.refused
        report = MergeReport()
        self.partners = frozenset()
        if merged.delta is not None:
            paired = trial.move(own, merged.delta)
            if paired.of:
                report.merge_gain = round(paired.gain, 4)
                self._gains.append(paired.gain)
            if paired.falls:
                refused["held-out fell"] += 1
            else:
                self.partners = frozenset(merged.partners)
                report.merged = len(merged.partners)
                ages = [self._clock.start(number) - self._clock.start(notes[peer].round) for peer in merged.partners]
                report.staleness_s = round(statistics.fmean(ages), 1)
        self._stride.leave(self._learner.delta())
        most = 1 + settings.learning_rate_rise * self._learner.updates
        base, power = self._recipe.grpo.learning_rate, settings.learning_rate_power
        self._learner.set_learning_rate(learning_rate(base, 1 + report.merged, power, most))
        self.steps = steps(settings.steps, 1 + report.merged)
        report.merge_refused = dict(refused)
        report.help = estimate(self._gains, settings.validation)
        return report

    def _fetch(self, notes: Mapping[str, MergeNote], like: Delta, refused: Counter[str]) -> dict[str, Delta]:
        wanted: dict[BlobRef, list[str]] = {}
        for peer, note in notes.items():
            if note.size > max_blob_bytes(like):
                refused["too large"] += 1
            else:
                wanted.setdefault(BlobRef(note.sha256, note.size), []).append(peer)
        if self._published in wanted:  # the same weights count once, the own ones, too
            refused["copied"] += len(wanted.pop(self._published))
        blobs = self._network.fetch_many(wanted, self._fetch_s) if wanted else {}
        deltas: dict[str, Delta] = {}
        for reference, peers in wanted.items():
            refused.update({"copied": len(peers) - 1} if len(peers) > 1 else {})
            if reference not in blobs:
                refused[NOT_DELIVERED] += 1
                continue
            try:
                deltas[min(peers)] = decode(blobs[reference], like)
            except WeightsRefused as error:
                refused[error.reason] += 1
                logger.info("refused the weights of %s: %s", min(peers), error)
        return deltas

    def _questions(self, number: int) -> list[Task]:
        drawn = derive_tasks(self._recipe, self._secret + number.to_bytes(8, "big"), self._recipe.merging.validation)
        return [task for task in drawn if has_truth(self._recipe, task)]

    @property
    def _active(self) -> bool:
        return self._recipe.merging.rule != "none" and self._learner.origin is not None

    @property
    def _fetch_s(self) -> float:
        return min(MAX_FETCH_S, FETCH_SHARE * self._recipe.timing.round_s)
