"""Whether rollouts come from the weights that their record names: for whoever has these weights."""

import math
from dataclasses import dataclass

from swarm.recipe.schema import Recipe
from swarm.round.records import AnswerGroup, CritiqueGroup, RevisionGroup, StageRecord
from swarm.round.stages import sampling_seed
from swarm.training.learner import Learner

MAX_DRIFT = 0.1
"""Nats per token, in the mean, between claimed and recomputed log-probabilities; rounding in bfloat16 gives 0.02."""
MISSES = 0.05
"""Share of tokens to which their noise may fail to point, where rounding decides."""


@dataclass(frozen=True)
class Finding:
    """What the replay of one group gave."""

    tokens: int
    drift: float
    """Mean absolute difference of claimed and recomputed log-probabilities, nats per token."""
    misses: int
    """Tokens to which the public noise does not point."""
    wrong: str | None
    """In one sentence what does not hold; None where all does."""


def replay_group(
    learner: Learner,
    recipe: Recipe,
    seed: bytes,
    record: StageRecord,
    index: int,
    prompt: tuple[int, ...],
) -> Finding:
    """Replay group `index` of a record by the weights of `learner`, which are those that the record names.

    Args:
        seed: of the round.
        prompt: as the author must have had it.
    """
    group: AnswerGroup | CritiqueGroup | RevisionGroup = record.groups[index]
    found = learner.replay(
        prompt,
        [(rollout.tokens, rollout.finished) for rollout in group.rollouts],
        getattr(recipe.stages, record.stage),
        seed=sampling_seed(seed + record.peer_id.encode(), record.stage),
        place=index,
    )
    claimed = [value for rollout in group.rollouts for value in rollout.logprobs]
    recomputed = [value for one in found for value in one.logprobs]
    drift = math.fsum(abs(a - b) for a, b in zip(claimed, recomputed, strict=True)) / len(claimed)
    misses = sum(one.misses for one in found)
    wrong = None
    if drift > MAX_DRIFT:
        wrong = f"the claimed log-probabilities are {drift:.2f} nats per token from those of the named weights"
    elif record.level == "replicate" and misses > max(1, MISSES * len(claimed)):
        wrong = f"{misses} of {len(claimed)} tokens are not those to which the public noise points"
    elif not all(one.ends_rightly for one in found):
        wrong = "a completion goes on after its end, or is called finished without one"
    elif any(learner.decode(rollout.tokens) != rollout.text for rollout in group.rollouts):
        wrong = "a text is not that of its tokens"
    return Finding(len(claimed), drift, misses, wrong)
