"""Replays the records of an exported round by weights that are at hand."""

from collections.abc import Iterator
from pathlib import Path

from swarm.recipe.prompts import answer_prompt, critique_prompt, revise_prompt
from swarm.recipe.schema import Recipe
from swarm.round.evidence import Evidence
from swarm.round.records import (
    AnswerGroup,
    AnyRecord,
    CritiqueGroup,
    OpeningRecord,
    RevisionGroup,
    StageRecord,
)
from swarm.round.replay import Finding, replay_group
from swarm.round.stages import encode_prompt
from swarm.training.learner import Learner
from swarm.training.obtain import obtain
from swarm.verify.checks import Check


class Replayer:
    """Replays what was sampled by the recipe's own model, or by it with the weights of a checkpoint."""

    def __init__(self, recipe: Recipe, seed: bytes, model: str | None, checkpoint: Path | None) -> None:
        """
        Args:
            model: in place of the recipe's: a path or hub id.
            checkpoint: a folder below a home's `checkpoints`; None for the model as it was before its first round.

        Raises:
            SwarmError: there is no such model or checkpoint.
        """
        self._recipe = recipe
        self._seed = seed
        settings = recipe.model.model_copy(update={"id": model or recipe.model.id})
        folder = obtain(settings.id, lambda line: None)
        # seed as in Entrance: the first weights of an adapter follow from it
        self._learner = Learner.load(folder, settings, recipe.grpo, seed=recipe.heldout.seed % 2**31)
        if checkpoint is not None:
            self._learner.restore(checkpoint)

    def __call__(self, record: AnyRecord, evidence: Evidence) -> Iterator[Check]:
        if isinstance(record, OpeningRecord):
            return
        what = f"{record.stage} of {record.peer_id}: replay"
        if record.fingerprint != self._learner.fingerprint:
            yield Check(what, "unknown", f"the weights {record.fingerprint[:12]} are not at hand")
            return
        prompts = {index: self._prompt(record, index, evidence) for index in range(len(record.groups))}
        missing = sum(prompt is None for prompt in prompts.values())
        found = [self._replay(record, index, prompt) for index, prompt in prompts.items() if prompt is not None]
        wrong = [finding.wrong for finding in found if finding.wrong]
        if wrong:
            yield Check(what, "fails", f"{len(wrong)} of {len(found)} groups: {wrong[0]}")
        elif found:
            tokens, misses = sum(one.tokens for one in found), sum(one.misses for one in found)
            drift = sum(one.drift * one.tokens for one in found) / tokens
            said = f"{tokens} tokens, log-probabilities within {drift:.4f} nats in the mean"
            if record.level == "replicate":
                said += f", {misses} of them not where the public noise points"
            yield Check(what, "holds", said)
        if missing:
            yield Check(what, "unknown", f"{missing} groups quote records that are not in the file")

    def _replay(self, record: StageRecord, index: int, prompt: str) -> Finding:
        encoded = encode_prompt(self._learner, self._recipe, prompt)
        return replay_group(self._learner, self._recipe, self._seed, record, index, encoded)

    def _prompt(self, record: StageRecord, index: int, evidence: Evidence) -> str | None:
        """What the author's model was asked; None where that quotes what is not here."""
        group = record.groups[index]
        match group:
            case AnswerGroup():
                return answer_prompt(self._recipe, evidence.task(record.peer_id, group.task))
            case CritiqueGroup():
                texts = evidence.answer_texts(group.author, group.task)
                task = evidence.task(group.author, group.task)
                return critique_prompt(self._recipe, task, texts[group.sample]) if group.sample < len(texts) else None
            case RevisionGroup():
                quoted = evidence.quoted(record, group)  # type: ignore[arg-type]
                texts = evidence.answer_texts(record.peer_id, group.task)
                task = evidence.task(record.peer_id, group.task)
                return None if quoted is None else revise_prompt(self._recipe, task, texts[group.sample], quoted)
