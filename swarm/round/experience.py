"""From records to training groups.

Nothing in a record is believed that can be known here: prompts are rebuilt from recipe, seed and the records they
quote, texts are decoded from the tokens, rewards are recomputed. What cannot be rebuilt is left out, and counted.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swarm.judging.calibration import Calibration
from swarm.judging.jury import Vote, decide
from swarm.judging.scores import advantages, critique_form, is_informative, proper_score
from swarm.recipe.prompts import answer_prompt, critique_prompt, revise_prompt
from swarm.recipe.schema import Recipe, Stage
from swarm.recipe.tasks import Task, own_tasks, shared_tasks
from swarm.recipe.verifiers import extract_answer, has_truth, verify
from swarm.round.assignment import draw
from swarm.round.records import AnswerRecord, CritiqueRecord, RevisionRecord, Rollout, StageRecord
from swarm.round.stages import encode_prompt, verdicts
from swarm.training.learner import Learner, TrainingGroup


@dataclass
class Book:
    """The records of one round that this peer holds, by stage and author; its own among them."""

    answers: dict[str, AnswerRecord] = field(default_factory=dict)
    critiques: dict[str, CritiqueRecord] = field(default_factory=dict)
    revisions: dict[str, RevisionRecord] = field(default_factory=dict)

    def add(self, record: StageRecord) -> None:
        match record:
            case AnswerRecord():
                self.answers[record.peer_id] = record
            case CritiqueRecord():
                self.critiques[record.peer_id] = record
            case RevisionRecord():
                self.revisions[record.peer_id] = record

    def records(self) -> list[StageRecord]:
        return [*self.answers.values(), *self.critiques.values(), *self.revisions.values()]


@dataclass(frozen=True)
class Group:
    """Rollouts for one prompt with recomputed rewards."""

    stage: Stage
    author: str
    task: int
    prompt: tuple[int, ...]
    rollouts: tuple[Rollout, ...]
    rewards: tuple[float, ...]
    """Empty where nobody can tell: no verifier, and no judge with weight."""


@dataclass(frozen=True)
class AuditedVerdict:
    """A judge's raw verdict on an answer whose truth the verifier knows."""

    judge: str
    author: str
    task: int
    sample: int
    raw: float
    truth: bool


class Reader:
    """Reads the records of one round with this peer's own tokenizer, verifier and calibrations."""

    def __init__(
        self,
        learner: Learner,
        recipe: Recipe,
        seed: bytes,
        book: Book,
        calibration: Callable[[str], Calibration],
    ) -> None:
        self._learner = learner
        self._recipe = recipe
        self._seed = seed
        self._book = book
        self._calibration = calibration
        self._shared = shared_tasks(recipe, seed)
        self._own: dict[str, list[Task]] = {}
        self.dropped: Counter[str] = Counter()
        """Groups that were not used, by reason."""

    def task(self, author: str, number: int) -> Task:
        """Task `number` of an author: shared tasks first, then its own."""
        if number < len(self._shared):
            return self._shared[number]
        if author not in self._own:
            self._own[author] = own_tasks(self._recipe, self._seed, author)
        return self._own[author][number - len(self._shared)]

    def texts(self, record: StageRecord, rollouts: Sequence[Rollout]) -> list[str]:
        """What rollouts say: decoded here where the tokens mean the same, else as their author wrote it."""
        if record.tokenizer == self._learner.tokenizer_fingerprint:
            return [self._learner.decode(rollout.tokens) for rollout in rollouts]
        return [rollout.text for rollout in rollouts]

    def answer_texts(self, author: str, task: int) -> list[str]:
        """All answers of an author to one of its tasks; empty where its record is not here."""
        record = self._book.answers.get(author)
        found = next((group for group in record.groups if group.task == task), None) if record else None
        return self.texts(record, found.rollouts) if record and found else []

    def truth_or_jury(self, author: str, task_number: int, sample: int, *, without: str = "") -> float | None:
        """How right an answer is, in [0, 1]: by the verifier, else by the jury without one judge, else None."""
        task = self.task(author, task_number)
        if has_truth(self._recipe, task):
            texts = self.answer_texts(author, task_number)
            return verify(self._recipe, task, texts[sample]) if sample < len(texts) else None
        votes = [
            Vote(calibration.probability(group.verdicts[sample]), calibration.weight)
            for judge, record in self._book.critiques.items()
            if judge not in (author, without)
            for group in record.groups
            if (group.author, group.task) == (author, task_number) and sample < len(group.verdicts)
            for calibration in (self._calibration(judge),)
        ]
        return decide(votes).probability

    def audited(self) -> list[AuditedVerdict]:
        """All verdicts of the round whose truth the verifier knows, each distinct answer of a group once."""
        found = []
        for judge, record in self._book.critiques.items():
            for group in record.groups:
                task = self.task(group.author, group.task)
                texts = self.answer_texts(group.author, group.task)
                if not has_truth(self._recipe, task) or len(texts) != len(group.verdicts) or judge == group.author:
                    continue
                seen: set[str | None] = set()
                for sample, (text, raw) in enumerate(zip(texts, group.verdicts, strict=True)):
                    extracted = extract_answer(self._recipe.verifier, text)
                    if extracted not in seen:
                        seen.add(extracted)
                        right = verify(self._recipe, task, text) >= 0.5
                        found.append(AuditedVerdict(judge, group.author, group.task, sample, raw, right))
        return found

    def groups(self, record: StageRecord) -> list[Group]:
        """The groups of a record whose prompts can be rebuilt here, with rewards recomputed."""
        if record.tokenizer != self._learner.tokenizer_fingerprint:
            self.dropped["another tokenizer"] += len(record.groups)
            return []
        match record:
            case AnswerRecord():
                return [self._answers(record, index) for index in range(len(record.groups))]
            case CritiqueRecord():
                return [group for index in range(len(record.groups)) if (group := self._critiques(record, index))]
            case _:
                return [group for index in range(len(record.groups)) if (group := self._revisions(record, index))]

    def _answers(self, record: AnswerRecord, index: int) -> Group:
        group = record.groups[index]
        task = self.task(record.peer_id, group.task)
        rewards = [self.truth_or_jury(record.peer_id, group.task, sample) for sample in range(len(group.rollouts))]
        return self._group("answer", record, group.task, answer_prompt(self._recipe, task), group.rollouts, rewards)

    def _critiques(self, record: CritiqueRecord, index: int) -> Group | None:
        """Critiques are rewarded by how right the local model judges after reading them: a proper score, and form."""
        group = record.groups[index]
        texts = self.answer_texts(group.author, group.task)
        if group.sample >= len(texts) or group.author == record.peer_id:
            self.dropped["the judged answer is not here"] += 1
            return None
        truth = self.truth_or_jury(group.author, group.task, group.sample, without=record.peer_id)
        task = self.task(group.author, group.task)
        judged = texts[group.sample]
        prompt = critique_prompt(self._recipe, task, judged)
        rewards: list[float | None] = [None] * len(group.rollouts)
        if truth is not None:
            critiques = self.texts(record, group.rollouts)
            raw = verdicts(self._learner, self._recipe, [(task, judged, text) for text in critiques])
            weights = self._recipe.rewards
            rewards = [
                weights.critique_score * proper_score(1 / (1 + math.exp(-score)), truth)
                + weights.critique_form * critique_form(text, rollout.finished)
                for score, text, rollout in zip(raw, critiques, group.rollouts, strict=True)
            ]
        return self._group("critique", record, group.task, prompt, group.rollouts, rewards)

    def _revisions(self, record: RevisionRecord, index: int) -> Group | None:
        group = record.groups[index]
        texts = self.answer_texts(record.peer_id, group.task)
        critiques = [self.critique_text(judge, record.peer_id, group.task, group.sample) for judge in group.judges]
        if group.sample >= len(texts) or None in critiques:
            self.dropped["a quoted record is not here"] += 1
            return None
        task = self.task(record.peer_id, group.task)
        quoted = [text for text in critiques if text is not None]
        prompt = revise_prompt(self._recipe, task, texts[group.sample], quoted)
        rewards: list[float | None] = [None] * len(group.rollouts)
        if has_truth(self._recipe, task):
            rewards = [verify(self._recipe, task, text) for text in self.texts(record, group.rollouts)]
        return self._group("revise", record, group.task, prompt, group.rollouts, rewards)

    def critique_text(self, judge: str, author: str, task: int, sample: int) -> str | None:
        """The critique that an author reads of one of its answers."""
        record = self._book.critiques.get(judge)
        for group in record.groups if record else ():
            if record and (group.author, group.task, group.sample) == (author, task, sample):
                return self.texts(record, group.rollouts[:1])[0]
        return None

    def _group(
        self,
        stage: Stage,
        record: StageRecord,
        task: int,
        prompt: str,
        rollouts: tuple[Rollout, ...],
        rewards: Sequence[float | None],
    ) -> Group:
        known = tuple(reward for reward in rewards if reward is not None)
        return Group(
            stage,
            record.peer_id,
            task,
            encode_prompt(self._learner, self._recipe, prompt),
            rollouts,
            known if len(known) == len(rollouts) else (),
        )


def choose(
    recipe: Recipe, seed: bytes, me: str, own: Sequence[Group], foreign: Sequence[Group], dropped: Counter[str]
) -> list[Group]:
    """The groups of an update: all own ones that can teach, and up to `external_groups` fetched ones.

    The fetched ones are drawn by the round's seed, and no author has more than its share while several are there.
    """
    usable: list[Group] = []
    for group in (*own, *foreign):
        if not group.rewards:
            dropped["nobody could judge it"] += 1
        elif not is_informative(group.rewards):
            dropped["all right" if min(group.rewards) >= 1 else "all rewards equal"] += 1
        else:
            usable.append(group)
    mine = [group for group in usable if group.author == me]
    others = [group for group in usable if group.author != me]
    others.sort(key=lambda group: draw(seed, "external", me, group.author, group.stage, group.task))
    limit = recipe.sharing.external_groups
    authors = {group.author for group in others}
    cap = max(1, math.floor(limit * recipe.sharing.author_share)) if len(authors) > 1 else limit
    taken: Counter[str] = Counter()
    chosen: list[Group] = []
    for group in others:
        if len(chosen) < limit and taken[group.author] < cap:
            taken[group.author] += 1
            chosen.append(group)
    dropped["more than the update takes"] += len(others) - len(chosen)
    return [*mine, *chosen]


def training_group(recipe: Recipe, group: Group, me: str) -> TrainingGroup:
    """A group as the update takes it."""
    return TrainingGroup(
        prompt=group.prompt,
        completions=tuple((rollout.tokens, rollout.logprobs) for rollout in group.rollouts),
        advantages=tuple(advantages(group.rewards, scale=recipe.grpo.scale_advantages)),
        own=group.author == me,
        temperature=getattr(recipe.stages, group.stage).temperature,
    )


def mean_rewards(groups: Sequence[Group]) -> dict[str, float]:
    """Mean reward by stage, over the groups that have one."""
    by_stage: dict[str, list[float]] = {}
    for group in groups:
        by_stage.setdefault(group.stage, []).extend(group.rewards)
    return {stage: math.fsum(rewards) / len(rewards) for stage, rewards in by_stage.items() if rewards}


def verdict_scores(audits: Sequence[AuditedVerdict], judge: str, calibration: Calibration) -> list[float]:
    """Proper scores of a judge's verdicts of one round, one per judged item (the mean over the item's answers)."""
    items: dict[tuple[str, int], list[float]] = {}
    for audit in audits:
        if audit.judge == judge:
            score = proper_score(calibration.probability(audit.raw), float(audit.truth))
            items.setdefault((audit.author, audit.task), []).append(score)
    return [math.fsum(scores) / len(scores) for scores in items.values()]
