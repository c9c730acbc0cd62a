"""Batches of experience, made with the tiny model."""

import torch

from swarm.recipe.schema import StageSettings
from swarm.training.learner import Learner, TrainingGroup

WORDS = ("sun", "tree", "Rome", "cat", "moon", "ink", "lamp", "dog")


def prompts(learner: Learner, words: tuple[str, ...] = WORDS) -> list[tuple[int, ...]]:
    return [learner.encode(f"{word}>", chat=False, system="") for word in words]


def experience(
    learner: Learner,
    words: tuple[str, ...] = WORDS,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    shift: float = 0.0,
) -> list[TrainingGroup]:
    """One group of 4 per word with made-up advantages that sum to zero; `shift` moves the behaviour log-probs."""
    settings = StageSettings(samples=4, max_new_tokens=8, temperature=temperature)
    drawn = learner.generate(prompts(learner, words), settings, seed=seed)
    noise = torch.Generator().manual_seed(seed)
    groups = []
    for prompt, row in zip(prompts(learner, words), drawn, strict=True):
        moved = [tuple(min(0.0, value + shift) for value in one.logprobs) for one in row]
        advantages = torch.randn(len(row), generator=noise)
        advantages -= advantages.mean()
        groups.append(
            TrainingGroup(
                prompt,
                tuple((one.tokens, logprobs) for one, logprobs in zip(row, moved, strict=True)),
                tuple(advantages.tolist()),
                own=True,
                temperature=temperature,
            )
        )
    return groups


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in learner._loaded.trainable.items()}
