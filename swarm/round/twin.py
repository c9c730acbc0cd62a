"""A solo twin: what this peer's model would be without the others, at a small share of its work.

The twin starts where the peer started and plays rounds of its own, each with as many fresh tasks and answers as the
peer had in that round, those of its practice included, and one update at the recipe's rate on these answers alone: no
critiques, nothing of anybody else. It plays while its seconds are less than `share` of the peer's, so it lags behind;
what it answers right after n rounds is set beside what the peer did after n (`swarm.round.benefit.against_twin`).
"""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.journal.journal import Journal
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import derive_tasks
from swarm.recipe.verifiers import has_truth
from swarm.round.benefit import against_twin
from swarm.round.heldout import answers, questions
from swarm.round.practice import verified_group
from swarm.round.stages import answer
from swarm.training import checkpoint
from swarm.training.learner import Learner

logger = logging.getLogger(__name__)

SHARE = 0.05
"""Of the seconds in which a peer works, unless it is told otherwise."""

Report = Mapping[str, Any]
"""`RoundReport` as JSON."""


class SoloTwin:
    """It has the peer's learner while it plays, and gives it back as it was."""

    def __init__(
        self,
        *,
        peer_id: str,
        learner: Learner,
        start: checkpoint.Snapshot,
        recipe: Recipe,
        journal: Journal,
        folder: Path,
        share: float,
        emit: Emitter,
    ) -> None:
        """
        Args:
            start: the learner before its first round, from which a twin that is not in `folder` yet begins.
            share: seconds of the twin per second of the peer, at most, waiting left out.
        """
        self._peer_id = peer_id
        self._learner = learner
        self._recipe = recipe
        self._journal = journal
        self._folder = folder
        self._share = share
        self._emit = emit
        self._questions = questions(recipe)
        self._present = self._kept() or replace(start, state={**start.state, "rounds": 0, "seconds": 0.0})
        reports = journal.reports()
        self._peer_s = math.fsum(map(_worked_s, reports))
        self._practised = list(map(_practised, reports))
        """Groups that the peer sampled for itself, by its rounds."""
        self._needed = any(map(_took_something, reports))
        self._last_s = 0.0

    def after_round(self, report: Report) -> checkpoint.Snapshot | None:
        """Play a round if one is due; then the state to `write` with no hurry."""
        self._peer_s += _worked_s(report)
        self._practised.append(_practised(report))
        self._needed = self._needed or _took_something(report)
        spent = float(self._present.state["seconds"])
        if not (self._needed and self._questions) or spent + self._last_s > self._share * self._peer_s:
            return None
        started = time.monotonic()
        own, rate = self._learner.snapshot(), self._learner.learning_rate
        rounds = int(self._present.state["rounds"]) + 1
        try:
            self._learner.put_back(self._present)
            self._learner.set_learning_rate(self._recipe.grpo.learning_rate)
            self._play(rounds)
            if rounds % self._recipe.heldout.every == 0:
                right = answers(self._learner, self._recipe, self._questions)
                self._journal.note_heldout_answers("twin", rounds, right)
            played = self._learner.snapshot()
        finally:
            self._learner.put_back(own)
            self._learner.set_learning_rate(rate)
        self._last_s = time.monotonic() - started
        self._present = replace(played, state={**played.state, "rounds": rounds, "seconds": spent + self._last_s})
        if rounds % self._recipe.heldout.every == 0:
            self._emit("twin", rounds=rounds, help=self._help())
        return self._present

    def write(self, state: checkpoint.Snapshot) -> None:
        """Keep what `after_round` gave; any thread may do so."""
        state.write(self._folder)

    def _play(self, rounds: int) -> None:
        recipe = self._recipe
        seed = f"twin {rounds} {self._peer_id}".encode()
        practised = self._practised[rounds - 1] if rounds <= len(self._practised) else 0
        drawn = derive_tasks(recipe, seed, recipe.tasks.shared + recipe.tasks.own + practised)
        tasks = [task for task in drawn if has_truth(recipe, task)]
        groups = [
            verified_group(self._learner, recipe, task, completions)
            for task, completions in zip(tasks, answer(self._learner, recipe, tasks, seed), strict=True)
        ]
        self._learner.update([group for group in groups if group is not None])

    def _help(self) -> dict[str, Any] | None:
        return against_twin(self._journal.heldout_answers("peer"), self._journal.heldout_answers("twin"))

    def _kept(self) -> checkpoint.Snapshot | None:
        """The twin of an earlier run, if it is one of this model."""
        if not self._folder.exists():
            return None
        own = self._learner.snapshot()
        try:
            kept = checkpoint.read(self._folder)
            if kept.state.get("base") != own.state["base"] or not {"rounds", "seconds"} <= set(kept.state):
                raise SwarmError(f"{self._folder} holds no twin of this model")
            self._learner.put_back(kept)
        except SwarmError as error:
            logger.warning("the twin begins again: %s", error)
            return None
        finally:
            self._learner.put_back(own)
        return kept


def _worked_s(report: Report) -> float:
    return math.fsum(seconds for stage, seconds in report["seconds"].items() if stage != "wait")


def _practised(report: Report) -> int:
    return int(report.get("practised", 0))


def _took_something(report: Report) -> bool:
    """Whether others have part in what the peer is after this round."""
    return bool(report.get("merged") or report.get("groups_fetched"))
