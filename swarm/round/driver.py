"""Runs one round of one peer: answer, critique, revise, update."""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Protocol

from swarm.events import Emitter
from swarm.journal.journal import AuditRow, RecordRow
from swarm.judging.calibration import Calibration
from swarm.judging.points import MILLIONTHS, round_points
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import Recipe
from swarm.recipe.seals import prompts_by_seal
from swarm.recipe.tasks import Task
from swarm.round.assignment import Assigner, Item, affordable, sources_of
from swarm.round.clock import Clock
from swarm.round.evidence import Book
from swarm.round.exchange import Exchange, Received
from swarm.round.experience import Group, Reader, affordable_groups, choose, mean_rewards, training_group
from swarm.round.merging import Merger
from swarm.round.openings import Openings, spent_by
from swarm.round.practice import Practice
from swarm.round.records import (
    AnswerRecord,
    AnyRecord,
    Kind,
    Level,
    OpeningRecord,
    StageRecord,
)
from swarm.round.report import Outcome, RoundReport
from swarm.round.stages import answer, critique, encode_prompt, revise
from swarm.round.weights import WeightsExchange
from swarm.round.writing import RecordWriter
from swarm.training.learner import Completion, Learner, TrainingGroup

logger = logging.getLogger(__name__)

Rows = dict[tuple[Kind, str], RecordRow]
"""By kind of record and author."""


class Company(Protocol):
    """The other peers, as whoever schedules the rounds sees them."""

    def expected(self) -> set[str]:
        """The live peers that take part in this round, this one included."""

    def worth_fetching(self, peers: Set[str]) -> set[str]:
        """Those of `peers` that have not lately announced what they did not deliver."""


class Driver:
    """One peer's way through its rounds."""

    def __init__(
        self,
        *,
        peer_id: str,
        swarm: str,
        recipe: Recipe,
        clock: Clock,
        learner: Learner,
        exchange: Exchange,
        calibration: Callable[[str], Calibration],
        emit: Emitter,
        merger: Merger | None = None,
        practice: Practice | None = None,
        assigner: Assigner | None = None,
        openings: Openings | None = None,
        spent: Collection[str] = (),
        published: Collection[str] = (),
        weights: WeightsExchange | None = None,
    ) -> None:
        """
        Args:
            calibration: what the audits so far say about a judge, by peer id.
            merger: how weights are merged; None for a peer that keeps its weights to itself.
            practice: what is done while others answer or criticise; None for a peer that just waits.
            assigner: who draws the judges; None for one that knows no owners.
            openings: the answers to the recipe's sealed items, where this peer is their author's.
            spent: the seals that were opened in rounds before this run.
            published: the fingerprints of weights that all can have: what they sample can be replayed.
            weights: where peers publish the weights that they sample with; None where they keep them.
        """
        self._peer_id = peer_id
        self._writer = RecordWriter(peer_id, swarm, learner)
        self._recipe = recipe
        self._clock = clock
        self._learner = learner
        self._exchange = exchange
        self._calibration = calibration
        self._emit = emit
        self._merger = merger
        self._practice = practice
        self._assigner = assigner or Assigner(recipe)
        self._openings = openings
        # With noise that all know, whoever has the weights could tell canaries from what was sampled.
        self._noise = peer_id.encode() + (b"" if openings is None else secrets.token_bytes(16))
        self._spent = set(spent)
        self._published = set(published)
        self._weights = weights
        self._sealed = bool(prompts_by_seal(recipe))
        self._seconds_per_group: float | None = None
        self._update_s_per_group: float | None = None

    def run(self, number: int, ordinal: int, seed: bytes, company: Company) -> Outcome:
        """Run a round up to and including the update.

        Args:
            number: the round.
            ordinal: which round of this peer it is, from 1.
            company: whom to wait for, asked again while waiting, and whose records to fetch.
        """
        report = RoundReport(number, ordinal)
        book = Book()
        rows: Rows = {}
        missing: set[str] = set()
        undelivered: set[str] = set()
        reader = Reader(self._learner, self._recipe, seed, book, self._calibration, self._spent, self._merged())
        pieces = reader.read_ahead(self._peer_id, self._recipe.sharing.external_groups)
        tokens_before = self._learner.counters.generated_tokens
        joules_before = self._learner.joules()
        refused_before = Counter(self._exchange.refused)

        def commit(record: AnyRecord) -> Received:
            committed = self._exchange.commit(record)
            rows[record.stage, record.peer_id] = committed.row
            return committed

        def publish(record: StageRecord) -> Received:
            book.add(record)
            report.rollouts_published += sum(len(group.rollouts) for group in record.groups)
            return commit(record)

        def read_ahead() -> bool:
            """What the update would do else, done while the others revise."""
            with self._timed(report, "update"), self._timed(report, "wait", -1):
                return next(pieces, False)

        def practise() -> Callable[[], bool]:
            """What is done while the others answer or criticise."""
            if self._practice is None:
                return lambda: False
            piece = self._practice.while_waiting()

            def timed() -> bool:
                with self._timed(report, "practice"), self._timed(report, "wait", -1):
                    return piece()

            return timed

        def collect(
            own: Received,
            wanted: Callable[[Mapping[str, int]], set[str]],
            waited_for: Callable[[], set[str]],
            meanwhile: Callable[[], bool],
        ) -> dict[str, int]:
            """Wait until all have committed to their records of a stage, then show the own one and fetch from the
            `wanted` who published; how many groups each peer announced."""
            stage = own.record.stage
            assert stage != "open", "openings are not waited for"
            with self._timed(report, "wait"):
                due = self._clock.due(number, stage)
                self._emit("waiting", round=number, stage=stage, until=due)
                notes = self._exchange.wait(number, stage, waited_for, due, meanwhile)
                if self._weights is not None and stage == "answer":
                    self._weights.publish()  # not before: with them and the seed anybody could have told the answers
                self._exchange.reveal(own)
                announced = {peer: note.groups for peer, (_, note) in notes.items()}
                accused = self._exchange.accused(number) - {self._peer_id}
                authors = company.worth_fetching(wanted(announced)) - {self._peer_id} - undelivered - accused
                self._emit("announced", round=number, stage=stage, peers=sorted(announced))
                received = self._exchange.collect(number, stage, notes, authors, due)
            if stage == "answer":
                book.committed = {peer: said.expires for peer, (said, _) in notes.items()}
            rows.update({(stage, row.peer_id): row for row in self._exchange.seen(stage, notes)})
            replayed = self._weights.drawn(seed, received) if self._weights and stage == "answer" else None
            accepted = {
                peer
                for peer, item in received.items()
                if self._accept(item, reader, book, rows, report, replayed == peer)
            }
            for peer in accused:  # what it said keeps its place in the round, and nobody looks at it any more
                book.forget(peer)
                rows.update({key: replace(row, body=b"") for key, row in rows.items() if row.peer_id == peer})
            missing.update(waited_for() - set(notes))
            undelivered.update(authors & set(notes) - accepted)
            return announced

        # answer
        with self._stage(report, number, "answer"):
            tasks = self._tasks(number, reader)
            answers = answer(self._learner, self._recipe, tasks, seed + self._noise)
            self._plant(seed, tasks, answers)
            committed = publish(self._writer.answers(number, answers, self._level()))
        roster = collect(
            committed, lambda announced: self._wanted(number, seed, announced), company.expected, practise()
        )
        report.partners = len(book.answers) - 1
        drawn = self._assigner.draw(number, seed, roster)
        assigned, reader.owners = drawn.judges, drawn.owners

        # critique
        with self._stage(report, number, "critique"):
            work = reader.to_judge(self._peer_id, assigned)
            critiques = critique(self._learner, self._recipe, work, seed + self._noise)
            committed = publish(self._writer.critiques(number, critiques, self._level()))
            report.critiques = sum(len(piece.completions) for piece in critiques)
            report.verdicts = sum(len(piece.verdicts) for piece in critiques)
        authors = set(book.answers)
        judges = authors | {
            judge for item, chosen in assigned.items() if item.author == self._peer_id for judge in chosen
        }
        collect(committed, lambda peers: judges & set(peers), lambda: company.expected() & judges, practise())
        book.keep_assigned(assigned)
        opening = self._opening_record(number, seed, reader, assigned)
        opened = commit(opening) if opening else None

        # revise
        with self._stage(report, number, "revise"):
            own_items = reader.criticised(self._peer_id, assigned)
            criticised = reader.to_revise(self._peer_id, own_items)
            revisions = revise(self._learner, self._recipe, criticised, seed + self._noise)
            committed = publish(self._writer.revisions(number, own_items, revisions, self._level()))
            report.revisions = sum(map(len, revisions))
        collect(committed, lambda peers: authors & set(peers), lambda: company.expected() & authors, read_ahead)
        if opened is not None:  # only now: the answers would have helped those who revise
            self._exchange.reveal(opened)
            book.add(opened.record)
        if self._sealed:
            self._collect_openings(number, book, rows, report)

        # update
        with self._stage(report, number, "update"):
            rewards = self._learn(reader, book, seed, report)
        if self._merger is not None and self._merger.due(ordinal):
            with self._stage(report, number, "merge"):
                alike = {author for author, record in book.answers.items() if reader.same_family(record)}
                merge = self._merger.run(number, seed, lambda: company.expected() & alike, rewards)
            report.merged, report.merge_refused = merge.merged, merge.merge_refused
            report.merge_gain, report.help = merge.merge_gain, merge.help
            report.staleness_s = merge.staleness_s
        audits = reader.audited()
        self._score(reader, book, report)
        self._spent |= spent_by(self._recipe, book.openings.values())
        report.generated_tokens = self._learner.counters.generated_tokens - tokens_before
        joules = self._learner.joules()
        report.joules = None if joules is None or joules_before is None else round(joules - joules_before, 1)
        report.peak_memory = self._learner.peak_memory()
        report.refused = dict(Counter(self._exchange.refused) - refused_before)
        kept = [AuditRow(**asdict(audit)) for audit in audits]
        return Outcome(report, list(rows.values()), kept, authors, missing, undelivered, drawn)

    def _tasks(self, number: int, reader: Reader) -> list[Task]:
        full = self._recipe.tasks.shared + self._recipe.tasks.own
        window = self._clock.due(number, "answer") - time.time()
        count = affordable(full, self._seconds_per_group, window)
        if count < full:
            self._emit("smaller_round", round=number, tasks=count, of=full)
        return [reader.task(self._peer_id, task) for task in range(count)]

    def _plant(self, seed: bytes, tasks: Sequence[Task], answers: Sequence[list[Completion]]) -> None:
        """The recipe's author puts canaries among its own answers."""
        if self._openings is None:
            return
        settings, share = self._recipe.stages.answer, self._recipe.audits.share
        for place, planted in self._openings.canaries(seed, share, tasks, self._spent, settings.samples).items():
            prompt = encode_prompt(self._learner, self._recipe, answer_prompt(self._recipe, tasks[place]))
            completion = self._learner.completion_of(prompt, planted.text, settings)
            if completion is not None:
                answers[place][planted.sample] = completion

    def _wanted(self, number: int, seed: bytes, roster: Mapping[str, int]) -> set[str]:
        """The authors whose answers this peer needs: those that it learns from, and those that it has to judge."""
        assigned = self._assigner.draw(number, seed, roster).judges
        judged = {item.author for item, judges in assigned.items() if self._peer_id in judges}
        return judged | set(sources_of(self._recipe, seed, self._peer_id, roster))

    def _opening_record(
        self, number: int, seed: bytes, reader: Reader, assigned: Collection[Item]
    ) -> OpeningRecord | None:
        """The sealed answers that this peer has to open in a round, if it can open any."""
        if self._openings is None:
            return None
        tasks = [reader.task(item.author, item.task) for item in assigned]
        due = self._openings.due(seed, self._recipe.audits.share, tasks, self._spent)
        return self._writer.openings(number, due)

    def _collect_openings(self, number: int, book: Book, rows: Rows, report: RoundReport) -> None:
        """Openings are committed to while others revise, and shown after that: nobody has to wait for them."""
        with self._timed(report, "wait"):
            notes = self._exchange.announced(number, "open")
            received = self._exchange.collect(number, "open", notes, notes)
        rows.update({("open", row.peer_id): row for row in self._exchange.seen("open", notes)})
        for author, item in received.items():
            book.add(item.record)
            rows["open", author] = item.row

    def _accept(
        self, item: Received, reader: Reader, book: Book, rows: Rows, report: RoundReport, replayed: bool
    ) -> bool:
        record = item.record
        assert not isinstance(record, OpeningRecord), "openings hold no tokens"
        same_tokens = record.tokenizer == self._learner.tokenizer_fingerprint
        tokens = (token for group in record.groups for rollout in group.rollouts for token in rollout.tokens)
        if same_tokens and max(tokens, default=0) >= self._learner.vocabulary_size:
            self._exchange.refused["token out of range"] += 1
            return False
        if isinstance(record, AnswerRecord) and (wrong := self._replay(record, reader, replayed)):
            logger.warning("refused the answers of %s: %s", record.peer_id, wrong)
            self._exchange.refused["not replayed"] += 1
            return False
        book.add(record)
        rows[record.stage, record.peer_id] = item.row
        report.rollouts_fetched += sum(len(group.rollouts) for group in record.groups)
        return True

    def _replay(self, record: AnswerRecord, reader: Reader, drawn: bool) -> str | None:
        """What a spot check of the rollouts finds: under the own weights where they are the author's, and, where it is
        drawn, under those that the author has published."""
        if drawn and record.level != "none" and record.fingerprint != self._learner.fingerprint:
            assert self._weights is not None
            return self._weights.check(record, lambda: reader.replay_one(record, self._peer_id))
        return reader.replay_one(record, self._peer_id)

    def _learn(self, reader: Reader, book: Book, seed: bytes, report: RoundReport) -> dict[str, float]:
        """Update on own and fetched groups; the mean reward of the answers of each author."""
        for record in book.records():
            if not reader.trains_on(record.peer_id):
                reader.dropped["of a merged peer"] += len(record.groups)
        own = reader.own(self._peer_id)
        left_s = self._clock.end(report.number) - time.time()

        def affordable(wanted: int, beside: int) -> int:
            return affordable_groups(self._recipe, wanted, beside, self._update_s_per_group, left_s)

        limit = affordable(self._recipe.sharing.external_groups, len(own))
        chosen = choose(self._recipe, seed, self._peer_id, own, reader.fetched(self._peer_id), reader.dropped, limit)
        practised: list[TrainingGroup] = []
        if self._practice is not None:
            practised, report.practised = self._practice.take(affordable(self._recipe.tasks.practice, len(chosen)))
        experience = [training_group(self._recipe, group, self._peer_id) for group in chosen]
        update = self._learner.update([*experience, *practised], self._merger.steps if self._merger is not None else 1)
        if update.groups:
            self._update_s_per_group = update.seconds / update.groups
        report.rewards = {stage: round(value, 4) for stage, value in mean_rewards(own).items()}
        report.reward = report.rewards.get("answer")
        report.groups_trained = len(chosen) + len(practised) if update.skipped is None else 0
        report.groups_fetched = sum(group.author != self._peer_id for group in chosen) if update.skipped is None else 0
        report.dropped = {reason: count for reason, count in reader.dropped.items() if count}
        report.updated = update.skipped is None
        report.update = asdict(update)
        report.why_nothing = _why_nothing(own, report, update.skipped)
        return reader.answer_means()

    def _score(self, reader: Reader, book: Book, report: RoundReport) -> None:
        own = [record for record in book.records() if record.peer_id == self._peer_id]
        report.points = round_points(reader.earned(record) for record in own) / MILLIONTHS
        judge = self._calibration(self._peer_id)
        report.informedness = round(judge.informedness, 4) if judge.audits else None

    def _merged(self) -> frozenset[str]:
        """Peers whose groups are left out of the update, as what they have learnt is in the present weights."""
        if self._merger is None or self._recipe.sharing.merged_peers == "train":
            return frozenset()
        return self._merger.partners

    def _level(self) -> Level:
        """What others can check."""
        public = self._weights is not None and self._learner.can_publish
        if not public and self._learner.fingerprint not in self._published:
            return "none"
        return "replicate" if self._openings is None and self._learner.replicable else "audit"

    @contextmanager
    def _stage(self, report: RoundReport, number: int, stage: str) -> Iterator[None]:
        due = self._clock.end(number) if stage in ("update", "merge") else self._clock.due(number, stage)  # type: ignore[arg-type]
        self._emit("stage", round=number, ordinal=report.ordinal, stage=stage, until=due)
        started = time.monotonic()
        with self._timed(report, stage):
            yield
        if stage == "answer":
            groups = max(1, report.rollouts_published // max(1, self._recipe.stages.answer.samples))
            self._seconds_per_group = (time.monotonic() - started) / groups

    @contextmanager
    def _timed(self, report: RoundReport, what: str, sign: int = 1) -> Iterator[None]:
        started = time.monotonic()
        yield
        report.seconds[what] = round(report.seconds.get(what, 0.0) + sign * (time.monotonic() - started), 3)


def _why_nothing(own: Sequence[Group], report: RoundReport, skipped: str | None) -> str | None:
    answers = [group for group in own if group.stage == "answer"]
    if answers and not any(group.rewards for group in answers):
        return "no code can check these tasks and no judge has proved itself yet, so nobody could say who was right"
    if answers and max(max(group.rewards, default=0.0) for group in answers) == 0:
        return "no answer was right"
    if skipped is not None:
        return skipped
    return None
