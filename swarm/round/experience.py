"""From records to training groups.

Nothing in a record is believed that can be known here: prompts are rebuilt from recipe, seed and the records they
quote, texts are decoded from the tokens, rewards are recomputed. What cannot be rebuilt is left out, and counted.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from swarm.judging.calibration import Calibration
from swarm.judging.scores import advantages, critique_form, evenness, is_informative, proper_score
from swarm.recipe.prompts import answer_prompt, critique_prompt, revise_prompt
from swarm.recipe.schema import Recipe, Stage
from swarm.round.assignment import draw
from swarm.round.evidence import Book, Evidence, known
from swarm.round.records import AnswerRecord, CritiqueGroup, CritiqueRecord, RevisionRecord, Rollout, StageRecord
from swarm.round.replay import replay_group
from swarm.round.stages import encode_prompt, verdicts
from swarm.training.learner import Learner, TrainingGroup


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
    rescored: bool = False
    """Of another model, whose log-probabilities mean nothing here."""


class Reader(Evidence):
    """The evidence of one round as training takes it: with this peer's own tokenizer and model."""

    def __init__(
        self,
        learner: Learner,
        recipe: Recipe,
        seed: bytes,
        book: Book,
        calibration: Callable[[str], Calibration],
        spent: Collection[str] = (),
        merged: Collection[str] = (),
    ) -> None:
        """`merged`: the peers whose groups are not trained on, as their weights are in the learner's."""
        super().__init__(recipe, seed, book, calibration, spent)
        self._learner = learner
        self._merged = merged
        self._read_before: dict[tuple[str, CritiqueGroup], list[float]] = {}
        """Raw verdicts after reading critiques, by judge and group."""
        self.dropped: Counter[str] = Counter()
        """Groups that were not used, by reason."""

    def texts(self, record: StageRecord, rollouts: Sequence[Rollout]) -> list[str]:
        """What rollouts say: decoded here where the tokens mean the same, else as their author wrote it."""
        if record.tokenizer == self._learner.tokenizer_fingerprint:
            return [self._learner.decode(rollout.tokens) for rollout in rollouts]
        return super().texts(record, rollouts)

    def groups(self, record: StageRecord) -> list[Group]:
        """The groups of a record whose prompts can be rebuilt here, with rewards recomputed."""
        if self._recipe.sharing.other_models == "drop" and not self.same_family(record):
            self.dropped["another model"] += len(record.groups)
            return []
        match record:
            case AnswerRecord():
                found = [self._answers(record, index) for index in range(len(record.groups))]
            case CritiqueRecord():
                found = [self._critiques(record, index) for index in range(len(record.groups))]
            case _:
                found = [self._revisions(record, index) for index in range(len(record.groups))]
        return [group for group in found if group is not None]

    def own(self, me: str) -> list[Group]:
        """The groups of this peer, in the order of the stages."""
        return [group for record in self._book.records() if record.peer_id == me for group in self.groups(record)]

    def fetched(self, me: str) -> Iterator[list[Group]]:
        """The groups of others that the update may take, cheap ones first: answers and revisions, whose rewards cost
        nothing here, then critiques, which the model has to read for theirs, one author's after the other."""
        others = [one for one in self._book.records() if one.peer_id != me and self.trains_on(one.peer_id)]
        yield [group for one in others if not isinstance(one, CritiqueRecord) for group in self.groups(one)]
        critiques = [one for one in others if isinstance(one, CritiqueRecord)]
        for one in sorted(critiques, key=lambda one: draw(self._seed, "read", me, one.peer_id)):
            yield self.groups(one)

    def same_family(self, record: StageRecord) -> bool:
        """Whether a record's author trains the same model, so that its log-probabilities mean something here."""
        here = self._learner.name[:200], self._learner.tokenizer_fingerprint
        return (record.model, record.tokenizer) == here

    def replay_one(self, record: AnswerRecord, checker: str) -> str | None:
        """Spot-check one group of answers where the weights that it names are the ones here: what does not hold."""
        if record.level == "none" or record.fingerprint != self._learner.fingerprint or not record.groups:
            return None
        index = draw(self._seed, "replay", checker, record.peer_id) % len(record.groups)
        prompt = answer_prompt(self._recipe, self.task(record.peer_id, record.groups[index].task))
        encoded = encode_prompt(self._learner, self._recipe, prompt)
        return replay_group(self._learner, self._recipe, self._seed, record, index, encoded).wrong

    def _answers(self, record: AnswerRecord, index: int) -> Group | None:
        group = record.groups[index]
        task = self.task(record.peer_id, group.task)
        rewards = self.answer_rewards(record, group)
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
            raw = self._verdicts_after(record, group)
            weights = self._recipe.rewards
            rewards = [
                weights.critique_score * proper_score(1 / (1 + math.exp(-score)), truth)
                + weights.critique_form * critique_form(text, rollout.finished)
                for score, text, rollout in zip(raw, critiques, group.rollouts, strict=True)
            ]
        return self._group("critique", record, group.task, prompt, group.rollouts, rewards)

    def trains_on(self, author: str) -> bool:
        """Whether the groups of this peer are for the update."""
        return author not in self._merged

    def read_ahead(self, me: str, wanted: int) -> Iterator[bool]:
        """Read the critiques that the update asks about, with the present weights: one group per step, then true.

        Own ones first; those of others only where their answers are not enough for the `wanted` fetched groups.
        """
        critiques = list(self._book.critiques.values())
        yield from self._read_of([record for record in critiques if record.peer_id == me])
        if self._telling(me) < wanted:
            yield from self._read_of([one for one in critiques if one.peer_id != me and self.trains_on(one.peer_id)])

    def _read_of(self, records: Sequence[CritiqueRecord]) -> Iterator[bool]:
        for record in records:
            for group in record.groups:
                if (
                    group.author != record.peer_id
                    and group.sample < len(self.answer_texts(group.author, group.task))
                    and self.truth_or_jury(group.author, group.task, group.sample, without=record.peer_id) is not None
                ):
                    self._verdicts_after(record, group)
                    yield True

    def _telling(self, me: str) -> int:
        """How many groups of answers of others can teach."""
        others = [one for one in self._book.answers.values() if one.peer_id != me and self.trains_on(one.peer_id)]
        return sum(is_informative(known(self.answer_rewards(one, group))) for one in others for group in one.groups)

    def answer_means(self) -> dict[str, float]:
        """The mean reward of the answers of each author, of the groups that somebody can judge."""
        found = {
            author: [reward for group in record.groups for reward in known(self.answer_rewards(record, group))]
            for author, record in self._book.answers.items()
        }
        return {author: math.fsum(rewards) / len(rewards) for author, rewards in found.items() if rewards}

    def _verdicts_after(self, record: CritiqueRecord, group: CritiqueGroup) -> list[float]:
        """What the local model makes of the judged answer after each of the critiques."""
        key = record.peer_id, group
        if key not in self._read_before:
            task = self.task(group.author, group.task)
            judged = self.answer_texts(group.author, group.task)[group.sample]
            asked = [(task, judged, text) for text in self.texts(record, group.rollouts)]
            self._read_before[key] = verdicts(self._learner, self._recipe, asked)
        return self._read_before[key]

    def _revisions(self, record: RevisionRecord, index: int) -> Group | None:
        group = record.groups[index]
        quoted = self.quoted(record, group)
        if quoted is None:
            self.dropped["a quoted record is not here"] += 1
            return None
        task = self.task(record.peer_id, group.task)
        revised = self.answer_texts(record.peer_id, group.task)[group.sample]
        prompt = revise_prompt(self._recipe, task, revised, quoted)
        rewards = self.revision_rewards(record, group)
        return self._group("revise", record, group.task, prompt, group.rollouts, rewards)

    def _group(
        self,
        stage: Stage,
        record: StageRecord,
        task: int,
        prompt: str,
        rollouts: tuple[Rollout, ...],
        rewards: Sequence[float | None],
    ) -> Group | None:
        family = self.same_family(record)
        if record.tokenizer != self._learner.tokenizer_fingerprint:
            fitting = [
                (own, reward)
                for rollout, reward in zip(rollouts, rewards, strict=True)
                if (own := self._in_own_tokens(stage, rollout)) is not None
            ]
            if len(fitting) < 2:
                self.dropped["too long in these tokens"] += 1
                return None
            rollouts, rewards = tuple(own for own, _ in fitting), [reward for _, reward in fitting]
        encoded = encode_prompt(self._learner, self._recipe, prompt)
        return Group(stage, record.peer_id, task, encoded, rollouts, known(rewards), not family)

    def _in_own_tokens(self, stage: Stage, rollout: Rollout) -> Rollout | None:
        """A rollout of another tokenizer as this one would have written it; None where it does not fit."""
        limit = getattr(self._recipe.stages, stage).max_new_tokens
        tokens = self._learner.completion_tokens(rollout.text, rollout.finished, limit)
        if tokens is None:
            return None
        return rollout.model_copy(update={"tokens": tokens, "logprobs": (0.0,) * len(tokens)})


def choose(
    recipe: Recipe,
    seed: bytes,
    me: str,
    own: Sequence[Group],
    fetched: Iterable[Sequence[Group]],
    dropped: Counter[str],
    limit: int,
) -> list[Group]:
    """The groups of an update: all own ones that can teach, and up to `limit` fetched ones.

    The fetched ones come in batches, of which the next is asked for only while there is room. Of a batch those are
    taken that say most: rewards that divide them most evenly, on prompts that are not in the update yet. The round's
    seed parts equals, and no author has more than its share where there are several. All are of this round.
    """
    mine = [group for group in own if _can_teach(group, dropped)]
    seen = {group.prompt for group in mine}
    taken: Counter[str] = Counter()
    authors: set[str] = set()
    chosen: list[Group] = []
    batches = iter(fetched)
    while len(chosen) < limit and (batch := next(batches, None)) is not None:
        usable = [group for group in batch if _can_teach(group, dropped)]
        usable.sort(key=lambda group: draw(seed, "external", me, group.author, group.stage, group.task))
        usable.sort(key=lambda group: evenness(group.rewards), reverse=True)
        authors |= {group.author for group in batch}
        cap = max(1, math.floor(limit * recipe.sharing.author_share)) if len(authors) > 1 else limit
        before = len(chosen)
        for novel in (True, False):
            for group in usable:
                if len(chosen) < limit and taken[group.author] < cap and group not in chosen:
                    if novel and group.prompt in seen:
                        continue
                    taken[group.author] += 1
                    seen.add(group.prompt)
                    chosen.append(group)
        dropped["more than the update takes"] += len(usable) - (len(chosen) - before)
    return [*mine, *chosen]


def _can_teach(group: Group, dropped: Counter[str]) -> bool:
    """Whether a group can teach anything; counted, if not."""
    if not group.rewards:
        dropped["nobody could judge it"] += 1
    elif not is_informative(group.rewards):
        dropped["all right" if min(group.rewards) >= 1 else "all rewards equal"] += 1
    else:
        return True
    return False


def affordable_groups(recipe: Recipe, wanted: int, own: int, seconds_per_group: float | None, left_s: float) -> int:
    """How many of the wanted groups fit into an update beside the own ones: fewer where it would take more than the
    recipe's share of the time that is left."""
    if not seconds_per_group:
        return wanted
    return max(0, min(wanted, int(recipe.sharing.update_share * left_s / seconds_per_group) - own))


def training_group(recipe: Recipe, group: Group, me: str) -> TrainingGroup:
    """A group as the update takes it."""
    own = group.author == me
    whole = TrainingGroup(
        prompt=group.prompt,
        completions=tuple((rollout.tokens, rollout.logprobs) for rollout in group.rollouts),
        advantages=tuple(advantages(group.rewards, scale=recipe.grpo.scale_advantages)),
        own=own,
        temperature=getattr(recipe.stages, group.stage).temperature,
        rescored=group.rescored,
    )
    return whole if own or recipe.sharing.learn_from == "all" else whole.winners()


def mean_rewards(groups: Sequence[Group]) -> dict[str, float]:
    """Mean reward by stage, over the groups that have one."""
    by_stage: dict[str, list[float]] = {}
    for group in groups:
        by_stage.setdefault(group.stage, []).extend(group.rewards)
    return {stage: math.fsum(rewards) / len(rewards) for stage, rewards in by_stage.items() if rewards}
