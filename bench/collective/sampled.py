"""What a peer sampled for one prompt of a run, and what whoever reads it trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.judging.scores import advantages
from swarm.recipe.schema import LearnFrom
from swarm.recipe.tasks import Task
from swarm.training.learner import Completion, TrainingGroup


@dataclass
class Sampled:
    """One prompt's completions with the rewards that the verifier gives."""

    author: int
    task: Task
    prompt: tuple[int, ...]
    completions: Sequence[Completion]
    rewards: list[float]

    def training(self, me: int, scale: float, other_model: bool, learn_from: LearnFrom) -> TrainingGroup:
        whole = TrainingGroup(
            prompt=self.prompt,
            completions=tuple((one.tokens, one.logprobs) for one in self.completions),
            advantages=tuple(scale * value for value in advantages(self.rewards, scale=True)),
            own=self.author == me,
            temperature=1.0,
            rescored=other_model,
        )
        return whole if whole.own or learn_from == "all" else whole.winners()
