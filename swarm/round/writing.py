"""Writes this peer's records of a round."""

import secrets
from collections.abc import Sequence
from typing import Any

from swarm import PROTOCOL
from swarm.round.assignment import Item
from swarm.round.records import (
    AnswerGroup,
    AnswerRecord,
    CritiqueGroup,
    CritiqueRecord,
    Level,
    OpenedItem,
    OpeningRecord,
    RevisionGroup,
    RevisionRecord,
    Rollout,
)
from swarm.round.stages import CritiqueWork
from swarm.training.learner import Completion, Learner


class RecordWriter:
    """Puts what a peer did into records that name it, its model and what others can check of them."""

    def __init__(self, peer_id: str, swarm: str, learner: Learner) -> None:
        self._peer_id = peer_id
        self._swarm = swarm
        self._learner = learner

    def answers(self, number: int, answers: Sequence[Sequence[Completion]], level: Level) -> AnswerRecord:
        """`answers` are in the order of the tasks."""
        groups = tuple(AnswerGroup(task=task, rollouts=_rollouts(found)) for task, found in enumerate(answers))
        return AnswerRecord(**self._header(number, level), groups=groups)

    def critiques(self, number: int, critiques: Sequence[CritiqueWork], level: Level) -> CritiqueRecord:
        groups = tuple(
            CritiqueGroup(
                author=work.item.author,
                task=work.item.task,
                sample=work.item.sample,
                verdicts=tuple(round(verdict, 4) for verdict in work.verdicts),
                rollouts=_rollouts(work.completions),
            )
            for work in critiques
        )
        return CritiqueRecord(**self._header(number, level), groups=groups)

    def revisions(
        self,
        number: int,
        items: Sequence[tuple[Item, dict[str, str]]],
        revisions: Sequence[Sequence[Completion]],
        level: Level,
    ) -> RevisionRecord:
        """`items` are the revised answers, each with the critiques that were read, by judge."""
        groups = tuple(
            RevisionGroup(task=item.task, sample=item.sample, judges=tuple(critiques), rollouts=_rollouts(found))
            for (item, critiques), found in zip(items, revisions, strict=True)
        )
        return RevisionRecord(**self._header(number, level), groups=groups)

    def openings(self, number: int, opened: Sequence[OpenedItem]) -> OpeningRecord:
        return OpeningRecord(**self._envelope(number), groups=tuple(opened))

    def _envelope(self, number: int) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "swarm": self._swarm,
            "round": number,
            "peer_id": self._peer_id,
            "salt": secrets.token_hex(16),
        }

    def _header(self, number: int, level: Level) -> dict[str, Any]:
        return {
            **self._envelope(number),
            "model": self._learner.name[:200],
            "fingerprint": self._learner.fingerprint,
            "tokenizer": self._learner.tokenizer_fingerprint,
            "level": level,
        }


def _rollouts(completions: Sequence[Completion]) -> tuple[Rollout, ...]:
    return tuple(
        Rollout(
            tokens=completion.tokens,
            logprobs=tuple(round(min(value, 0.0), 6) for value in completion.logprobs),
            finished=completion.finished,
            text=completion.text,
        )
        for completion in completions
    )
