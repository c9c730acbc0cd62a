"""The rounds of a swarm as somebody without a model sees them, kept in a journal as a peer keeps its own.

Records are checked as a peer checks them, and texts are as their authors wrote them: without a model there is no
tokenizer to decode tokens with. What each peer trained on, its held-out accuracy and the reward of critiques are in its
own journal only.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from swarm.chain.client import Chain
from swarm.events import Emitter
from swarm.journal.journal import AuditRow, Journal, RecordRow
from swarm.judging.calibration import WINDOW, Calibration, calibrate
from swarm.network.announcements import Announcement
from swarm.recipe.schema import Recipe, Stage
from swarm.round.assignment import judges_of
from swarm.round.clock import Clock
from swarm.round.evidence import Book, Evidence
from swarm.round.exchange import Exchange
from swarm.round.records import LiveNote, StageNote
from swarm.round.report import RoundReport
from swarm.round.seed import round_seed

logger = logging.getLogger(__name__)

MAX_OPEN = 4
"""Rounds that are followed at the same time: peers may say that they are in any."""
MAX_BYTES = 64 * 2**20
"""Records of one stage are fetched up to this; more are only listed."""
STAGES: tuple[Stage, ...] = ("answer", "critique", "revise")

Notes = Mapping[str, tuple[Announcement, StageNote]]


@dataclass
class _Round:
    """A round that is not over yet."""

    number: int
    book: Book = field(default_factory=Book)
    rows: dict[tuple[str, str], RecordRow] = field(default_factory=dict)
    """By stage and author; without the record where it is not here."""
    groups: dict[str, int] = field(default_factory=dict)
    """How many groups each peer announced to have answered."""
    told: tuple[str, tuple[str, tuple[str, ...]]] | None = None
    """The stage that was told last, and of which stage whose records are announced."""


class Follower:
    """Looks again and again; a round goes into the journal when it is over."""

    def __init__(
        self,
        *,
        chain: Chain,
        swarm: str,
        recipe: Recipe,
        clock: Clock,
        exchange: Exchange,
        journal: Journal,
        emit: Emitter,
    ) -> None:
        self._chain = chain
        self._swarm = swarm
        self._recipe = recipe
        self._clock = clock
        self._exchange = exchange
        self._journal = journal
        self._emit = emit
        self._open: dict[int, _Round] = {}
        last = journal.last_round()
        self._last, self._ordinal = (last.number, last.ordinal) if last else (-1, 0)

    def step(self, live: Mapping[str, LiveNote]) -> None:
        """Look once at the rounds that the live peers are in.

        Raises:
            SwarmError: the network does not answer.
        """
        now = time.time()
        named = Counter(
            note.round for note in live.values() if note.round > self._last and self._clock.plausible(note.round, now)
        )
        for number, _ in named.most_common():
            if number not in self._open and len(self._open) < MAX_OPEN:
                self._open[number] = _Round(number)
        for number in sorted(self._open):
            if number <= self._last:
                del self._open[number]
                continue
            found = self._open[number]
            playing = {peer for peer, note in live.items() if note.round == number}
            self._look(found, playing)
            done = self._exchange.done(number)
            if now >= self._clock.end(number) or (found.groups and not playing - set(done)):
                self._close(found)

    def _look(self, found: _Round, playing: set[str]) -> None:
        stage: str = "update"
        announced: tuple[str, tuple[str, ...]] = ("", ())
        for current in STAGES:
            notes = self._fetch(found, current)
            if notes:
                announced = (current, tuple(sorted(notes)))
            if not playing <= set(notes):
                stage = current
                break
        if found.told is None:
            self._emit(
                "round", round=found.number, ordinal=self._ordinal + 1, of=None, ends=self._clock.end(found.number)
            )
        if found.told is None or found.told[0] != stage:
            due = self._clock.end(found.number) if stage == "update" else self._clock.due(found.number, stage)  # type: ignore[arg-type]
            self._emit("stage", round=found.number, ordinal=self._ordinal + 1, stage=stage, until=due)
        if announced[1] and (found.told is None or found.told[1] != announced):
            self._emit("announced", round=found.number, stage=announced[0], peers=announced[1])
        found.told = (stage, announced)

    def _fetch(self, found: _Round, stage: Stage) -> Notes:
        """Get the records of a stage that are announced and not here; all its announcements."""
        notes = self._exchange.wait(found.number, stage, lambda: (), until=0.0)
        if stage == "answer":
            found.groups = {peer: note.groups for peer, (_, note) in notes.items()}
        for row in self._exchange.seen(stage, notes):
            found.rows.setdefault((stage, row.peer_id), row)
        missing = {peer: said for peer, said in notes.items() if not found.rows[stage, peer].body}
        for peer, received in self._exchange.collect(found.number, stage, notes, _affordable(missing)).items():
            found.book.add(received.record)
            found.rows[stage, peer] = received.row
        return notes

    def _close(self, found: _Round) -> None:
        del self._open[found.number]
        if not found.groups:
            return  # somebody said to be in a round that nobody played
        before = Counter(self._exchange.refused)
        for stage in STAGES:
            self._fetch(found, stage)  # what is missing now is missing for good, and is counted once
        refused = dict(Counter(self._exchange.refused) - before)
        seed, _ = round_seed(self._chain, self._swarm, self._clock, found.number)
        found.book.keep_assigned(judges_of(self._recipe, seed, found.groups))
        evidence = Evidence(self._recipe, seed, found.book, self._calibration)
        self._journal.commit_round(
            found.number,
            self._ordinal + 1,
            started=self._clock.start(found.number),
            finished=min(time.time(), self._clock.end(found.number)),
            seed=seed,
            checkpoint="",
            report=_report(found, self._ordinal + 1, evidence, refused),
            records=found.rows.values(),
            audits=[AuditRow(**asdict(audit)) for audit in evidence.audited()],
        )
        self._last, self._ordinal = found.number, self._ordinal + 1

    def _calibration(self, judge: str) -> Calibration:
        return calibrate(self._journal.audits_of(judge, WINDOW))


def _affordable(notes: Notes) -> list[str]:
    """The authors whose records, the smallest first, are not too much together."""
    chosen, total = [], 0
    for peer, (_, note) in sorted(notes.items(), key=lambda entry: (entry[1][1].size, entry[0])):
        total += note.size
        if total > MAX_BYTES:
            break
        chosen.append(peer)
    return chosen


def _report(found: _Round, ordinal: int, evidence: Evidence, refused: dict[str, int]) -> dict[str, Any]:
    """What an outsider can say of a round: the rewards are means over everybody's groups; None is not known."""
    book = found.book
    answers = [
        r for record in book.answers.values() for group in record.groups for r in evidence.answer_rewards(record, group)
    ]
    revisions = [
        r
        for record in book.revisions.values()
        for group in record.groups
        for r in evidence.revision_rewards(record, group)
    ]
    means = {"answer": _mean(answers), "revise": _mean(revisions)}
    report = RoundReport(
        found.number,
        ordinal,
        reward=means["answer"],
        rewards={stage: mean for stage, mean in means.items() if mean is not None},
        partners=len(book.answers),
        rollouts_fetched=sum(len(group.rollouts) for record in book.records() for group in record.groups),
        refused=refused,
    )
    return {**asdict(report), "groups_trained": None, "groups_fetched": None, "generated_tokens": None}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(math.fsum(known) / len(known), 4) if known else None
