"""What the records of one round say: tasks, answers, truths, audits, and what each author earned.

Needs no model: whoever has the recipe, the round's seed and the records finds the same.
"""

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from swarm.journal.journal import AuditRow
from swarm.judging.calibration import Calibration, pooled
from swarm.judging.copying import Work, copies
from swarm.judging.jury import decide, vote_of
from swarm.judging.points import group_points, in_millionths, judge_points
from swarm.recipe.schema import Recipe
from swarm.recipe.seals import is_audit, prompts_by_seal
from swarm.recipe.tasks import Task, own_tasks, shared_tasks
from swarm.recipe.verifiers import extract_answer, has_truth, verify
from swarm.round.assignment import Item
from swarm.round.openings import is_opening, planted
from swarm.round.records import (
    AnswerGroup,
    AnswerRecord,
    AnyRecord,
    CritiqueGroup,
    CritiqueRecord,
    OpenedItem,
    OpeningRecord,
    RevisionGroup,
    RevisionRecord,
    Rollout,
    StageRecord,
)


@dataclass
class Book:
    """The records of one round that this peer holds, by stage and author; its own among them."""

    answers: dict[str, AnswerRecord] = field(default_factory=dict)
    critiques: dict[str, CritiqueRecord] = field(default_factory=dict)
    revisions: dict[str, RevisionRecord] = field(default_factory=dict)
    openings: dict[str, OpeningRecord] = field(default_factory=dict)
    committed: dict[str, float] = field(default_factory=dict)
    """When the announcements of answers end, by author; all live equally long, so this is the order of commitment."""

    def add(self, record: AnyRecord) -> None:
        match record:
            case AnswerRecord():
                self.answers[record.peer_id] = record
            case CritiqueRecord():
                self.critiques[record.peer_id] = record
            case RevisionRecord():
                self.revisions[record.peer_id] = record
            case OpeningRecord():
                self.openings[record.peer_id] = record

    def forget(self, author: str) -> None:
        """Drop the answers, critiques and revisions of an author."""
        for records in (self.answers, self.critiques, self.revisions):
            records.pop(author, None)

    def records(self) -> list[StageRecord]:
        return [*self.answers.values(), *self.critiques.values(), *self.revisions.values()]

    def keep_assigned(self, assigned: Mapping[Item, Sequence[str]]) -> None:
        """Forget critiques by those who were not drawn to judge."""
        for judge, record in list(self.critiques.items()):
            groups = tuple(
                group
                for group in record.groups
                if judge in assigned.get(Item(group.author, group.task, group.sample), ())
            )
            self.critiques[judge] = record.model_copy(update={"groups": groups})


class Evidence:
    """The records of one round, read with recipe and seed, and with what is known about the judges."""

    def __init__(
        self,
        recipe: Recipe,
        seed: bytes,
        book: Book,
        calibration: Callable[[str], Calibration],
        spent: Collection[str] = (),
    ) -> None:
        """`spent`: the seals that were opened in earlier rounds; what everybody knows is no audit."""
        self.owners: Mapping[str, str] = {}
        """Of the linked peers, once they are known."""
        self._spent = frozenset(spent)
        self._judges: dict[str, Calibration] = {}
        self._judged: tuple[tuple[CritiqueRecord, ...], Mapping[tuple[str, int], Any]] | None = None
        self._compared: tuple[tuple[AnswerRecord, ...], set[Hashable]] | None = None
        self._read: tuple[tuple[OpeningRecord, ...], dict[str, OpenedItem]] = ((), {})
        self._recipe = recipe
        self._book = book
        self._calibration = calibration
        self._seed = seed
        self._shared = shared_tasks(recipe, seed)
        self._own: dict[str, list[Task]] = {}

    def task(self, author: str, number: int) -> Task:
        """Task `number` of an author: shared tasks first, then its own; with the answer, where its seal was opened."""
        if number < len(self._shared):
            return self._opened(self._shared[number])
        if author not in self._own:
            self._own[author] = own_tasks(self._recipe, self._seed, author)
        return self._opened(self._own[author][number - len(self._shared)])

    def _opened(self, task: Task) -> Task:
        seal = task.entry.get("seal")
        opened = self.openings().get(seal) if seal else None
        if opened is None:
            return task
        return replace(task, entry={**task.entry, "answer": opened.answer})

    def openings(self) -> dict[str, OpenedItem]:
        """The audits of the round among the sealed items, by seal: opened by what the seal binds, drawn by salt and
        seed, and not known before. Who opened them does not matter."""
        records = tuple(self._book.openings.values())
        if records != self._read[0]:
            found = {
                opened.seal: opened
                for record in records
                for opened in record.groups
                if opened.seal not in self._spent
                and is_opening(self._recipe, opened)
                and is_audit(opened.salt, self._seed, self._recipe.audits.share)
            }
            self._read = (records, found)
        return self._read[1]

    def texts(self, record: StageRecord, rollouts: Sequence[Rollout]) -> list[str]:
        """What rollouts say, as their author wrote it."""
        return [rollout.text for rollout in rollouts]

    def answer_texts(self, author: str, task: int) -> list[str]:
        """All answers of an author to one of its tasks; empty where its record is not here."""
        record = self._book.answers.get(author)
        found = next((group for group in record.groups if group.task == task), None) if record else None
        return self.texts(record, found.rollouts) if record and found else []

    def critique_text(self, judge: str, author: str, task: int, sample: int) -> str | None:
        """The critique that an author reads of one of its answers."""
        record = self._book.critiques.get(judge)
        for group in record.groups if record else ():
            if record and (group.author, group.task, group.sample) == (author, task, sample):
                return self.texts(record, group.rollouts[:1])[0]
        return None

    def criticised(self, author: str, assigned: Mapping[Item, Sequence[str]]) -> list[tuple[Item, dict[str, str]]]:
        """The answers of an author that somebody criticised, with the critiques by judge, up to as many as the recipe
        has revised."""
        found = []
        for item, judges in assigned.items():
            if item.author == author:
                texts = {judge: self.critique_text(judge, author, item.task, item.sample) for judge in judges}
                critiques = {judge: text for judge, text in texts.items() if text is not None}
                if critiques:
                    found.append((item, critiques))
        return found[: self._recipe.stages.revise.groups]

    def to_judge(self, judge: str, assigned: Mapping[Item, Sequence[str]]) -> dict[Item, tuple[Task, list[str]]]:
        """What a judge was drawn for and can read: for each item its task and all answers of its author to it."""
        return {
            item: (self.task(item.author, item.task), self.answer_texts(item.author, item.task))
            for item, judges in assigned.items()
            if judge in judges and item.author in self._book.answers
        }

    def to_revise(
        self, author: str, items: Sequence[tuple[Item, Mapping[str, str]]]
    ) -> list[tuple[Task, str, list[str]]]:
        """Task, first answer and critiques of each of the items that `criticised` found."""
        return [
            (self.task(author, item.task), self.answer_texts(author, item.task)[item.sample], list(critiques.values()))
            for item, critiques in items
        ]

    def truth_or_jury(self, author: str, task_number: int, sample: int, *, without: str = "") -> float | None:
        """How right an answer is, in [0, 1]: by the verifier, else by the jury without one judge, else None."""
        task = self.task(author, task_number)
        if has_truth(self._recipe, task):
            texts = self.answer_texts(author, task_number)
            return verify(self._recipe, task, texts[sample]) if sample < len(texts) else None
        votes = [
            vote_of(self.judge(judge), group.verdicts[sample], self.owners.get(judge))
            for judge, group in self._judgements().get((author, task_number), ())
            if judge not in (author, without) and sample < len(group.verdicts)
        ]
        return decide(votes).probability

    def answer_rewards(self, record: AnswerRecord, group: AnswerGroup) -> list[float | None]:
        """For each answer of a group how right it is, as far as anybody can tell; None for all where one is a canary,
        which nobody has sampled."""
        if self._holds_canary(record, group):
            return [None] * len(group.rollouts)
        return [self.truth_or_jury(record.peer_id, group.task, sample) for sample in range(len(group.rollouts))]

    def _holds_canary(self, record: AnswerRecord, group: AnswerGroup) -> bool:
        opened = self.openings().get(self.task(record.peer_id, group.task).entry.get("seal") or "")
        if opened is None or record.peer_id not in self._book.openings:
            return False
        canary = planted(opened, self._seed, len(group.rollouts))
        return self.texts(record, group.rollouts)[canary.sample].strip() == canary.text.strip()

    def revision_rewards(self, record: RevisionRecord, group: RevisionGroup) -> list[float | None]:
        """For each revision of a group how right it is; None without a verifier."""
        task = self.task(record.peer_id, group.task)
        if not has_truth(self._recipe, task):
            return [None] * len(group.rollouts)
        return [verify(self._recipe, task, text) for text in self.texts(record, group.rollouts)]

    def quoted(self, record: RevisionRecord, group: RevisionGroup) -> list[str] | None:
        """The critiques that the prompt of a revision held; None where one of them, or the revised answer, is not
        here."""
        critiques = [self.critique_text(judge, record.peer_id, group.task, group.sample) for judge in group.judges]
        if group.sample >= len(self.answer_texts(record.peer_id, group.task)):
            return None
        texts = [text for text in critiques if text is not None]
        return texts if len(texts) == len(critiques) else None

    def audited(self) -> list[AuditRow]:
        """All verdicts of the round whose truth the verifier knows, each distinct answer of a group once.

        Where the recipe has sealed items, only they count: on the others a judge could have run the verifier.
        """
        found = []
        sealed = bool(prompts_by_seal(self._recipe))
        for judge, record in self._book.critiques.items():
            for group in record.groups:
                task = self.task(group.author, group.task)
                texts = self.answer_texts(group.author, group.task)
                if sealed and not task.entry.get("seal"):
                    continue
                if not has_truth(self._recipe, task) or len(texts) != len(group.verdicts) or judge == group.author:
                    continue
                seen: set[str | None] = set()
                for sample, (text, raw) in enumerate(zip(texts, group.verdicts, strict=True)):
                    extracted = extract_answer(self._recipe.verifier, text)
                    if extracted not in seen:
                        seen.add(extracted)
                        right = verify(self._recipe, task, text) >= 0.5
                        found.append(AuditRow(judge, group.author, group.task, sample, raw, right))
        return found

    def earned(self, record: StageRecord) -> int:
        """What a record of the book earns its author, in millionths of a point."""
        match record:
            case AnswerRecord():
                new = [g for g in record.groups if (record.peer_id, g.task) not in self._copied()]
                return in_millionths(group_points([known(self.answer_rewards(record, g)) for g in new]))
            case RevisionRecord():
                groups = [group for group in record.groups if self.quoted(record, group) is not None]
                return in_millionths(group_points([known(self.revision_rewards(record, g)) for g in groups]))
            case _:
                judged = sum(bool(self.answer_texts(group.author, group.task)) for group in record.groups)
                return in_millionths(judge_points(self.judge(record.peer_id).worth, judged))

    def judge(self, peer: str) -> Calibration:
        """What is known about a judge; what all judges of its owner have shown counts together."""
        if peer not in self._judges:
            owner = self.owners.get(peer)
            siblings = [other for other, theirs in self.owners.items() if theirs == owner and other != peer]
            self._judges[peer] = pooled(self._calibration(peer), [self._calibration(other) for other in siblings])
        return self._judges[peer]

    def _judgements(self) -> Mapping[tuple[str, int], list[tuple[str, CritiqueGroup]]]:
        """The verdicts of the round by author and task."""
        records = tuple(self._book.critiques.values())
        if self._judged is None or self._judged[0] != records:
            found: dict[tuple[str, int], list[tuple[str, CritiqueGroup]]] = {}
            for record in records:
                for group in record.groups:
                    found.setdefault((group.author, group.task), []).append((record.peer_id, group))
            self._judged = (records, found)
        return self._judged[1]

    def _copied(self) -> set[Hashable]:
        """The groups of answers that somebody else had committed to before, as (author, task)."""
        records = tuple(self._book.answers.values())
        if self._compared is None or self._compared[0] != records:
            works = [
                Work(
                    (record.peer_id, group.task),
                    record.peer_id,
                    _digest(self.task(record.peer_id, group.task), group),
                    -math.fsum(value for rollout in group.rollouts for value in rollout.logprobs),
                    self._book.committed.get(record.peer_id, math.inf),
                )
                for record in records
                for group in record.groups
            ]
            self._compared = (records, copies(works))
        return self._compared[1]


def known(rewards: Sequence[float | None]) -> tuple[float, ...]:
    """The rewards of a group, or none where one of them is unknown."""
    found = tuple(reward for reward in rewards if reward is not None)
    return found if len(found) == len(rewards) else ()


def _digest(task: Task, group: AnswerGroup) -> bytes:
    """Of what was sampled for a question, whoever did it."""
    tokens = [rollout.tokens for rollout in group.rollouts]
    return sha256(repr((task.question, sorted(tokens))).encode()).digest()
