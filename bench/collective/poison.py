"""What a poisoner among the peers sends in place of its weights and of its groups."""

import math
import random
from dataclasses import replace

import torch

from bench.collective.sampled import Sampled
from swarm.recipe.schema import Recipe
from swarm.recipe.verifiers import verify
from swarm.training.learner import Completion, Learner
from swarm.training.merging import Delta


def weights(kind: str, delta: Delta, seed: int) -> Delta:
    match kind:
        case "negated":
            return {name: -tensor for name, tensor in delta.items()}
        case "huge":
            return {name: 50 * tensor for name, tensor in delta.items()}
        case "nan":
            return {name: tensor * math.nan for name, tensor in delta.items()}
        case _:
            noise = torch.Generator().manual_seed(seed)
            return {
                name: tensor.std(correction=0) * torch.randn(tensor.shape, generator=noise).to(tensor.device)
                for name, tensor in delta.items()
            }


def lied(group: Sampled, seed: bytes) -> Sampled:
    """The same completions with log-probabilities that are noise."""
    draw = random.Random(seed)
    completions = [
        Completion(one.tokens, tuple(-10 * draw.random() for _ in one.tokens), one.finished, one.text)
        for one in group.completions
    ]
    return replace(group, completions=completions)


def padded(group: Sampled, learner: Learner, recipe: Recipe) -> Sampled:
    """Half of the completions say a wrong number, as short as can be; half are right, but say zeros first, as many as
    fit: whoever learns to begin so comes to no answer. A group that always divides its rewards evenly is always among
    the most informative ones."""
    right = str(group.task.entry["answer"])
    wrong = str(int(right) + 1)
    stage = recipe.stages.answer
    zeros = 0
    while learner.completion_tokens("0 " * (zeros + 1) + right, True, stage.max_new_tokens) is not None:
        zeros += 1
    known = [learner.completion_of(group.prompt, words, stage) for words in ("0 " * zeros + right, wrong)]
    half = len(group.completions) // 2
    completions = [one for one in known if one is not None for _ in range(half)]
    return replace(
        group, completions=completions, rewards=[verify(recipe, group.task, one.text) for one in completions]
    )
