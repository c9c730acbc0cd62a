"""Tasks derived from recipe and seed: every peer rebuilds the same, no answer key comes from a peer."""

import random
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import reasoning_gym

from swarm.recipe.schema import GymSource, ItemSource, Recipe

MAX_QUESTION_CHARS = 20_000
_ATTEMPTS = 64


@dataclass(frozen=True)
class Task:
    """One question."""

    source: int
    """Index of its source in the recipe."""
    question: str
    entry: dict[str, Any]
    """What the verifier needs: `answer` (None where only the jury can tell), and the dataset's metadata."""


def derive_tasks(recipe: Recipe, seed: bytes, count: int) -> list[Task]:
    """`count` tasks from a 32-byte seed, none of them a held-out question, as far as the sources allow."""
    heldout = _heldout_questions(recipe)
    return [_derive(recipe, sha256(seed + index.to_bytes(4, "big")).digest(), heldout) for index in range(count)]


def shared_tasks(recipe: Recipe, seed: bytes) -> list[Task]:
    """The tasks that every peer answers in the round with this seed."""
    return derive_tasks(recipe, sha256(b"shared" + seed).digest(), recipe.tasks.shared)


def own_tasks(recipe: Recipe, seed: bytes, peer_id: str) -> list[Task]:
    """The tasks that one peer alone answers in the round with this seed."""
    return derive_tasks(recipe, sha256(b"own" + seed + peer_id.encode()).digest(), recipe.tasks.own)


def heldout_tasks(recipe: Recipe) -> list[Task]:
    """The held-out set: distinct questions as far as the sources have them, the same for every peer and every round."""
    return list(_heldout(recipe))


@lru_cache(maxsize=4)
def _heldout(recipe: Recipe) -> tuple[Task, ...]:
    seed = sha256(b"heldout" + str(recipe.heldout.seed).encode()).digest()
    chosen: dict[str, Task] = {}
    for index in range(recipe.heldout.count):
        taken = frozenset(chosen)
        task = _derive(recipe, sha256(seed + index.to_bytes(4, "big")).digest(), taken)
        chosen.setdefault(task.question, task)
    return tuple(chosen.values())


@lru_cache(maxsize=4)
def _heldout_questions(recipe: Recipe) -> frozenset[str]:
    return frozenset(task.question for task in _heldout(recipe))


def _derive(recipe: Recipe, seed: bytes, avoid: frozenset[str]) -> Task:
    generator = random.Random(seed)
    weights = [source.weight for source in recipe.tasks.sources]
    task = None
    for _ in range(_ATTEMPTS):
        index = generator.choices(range(len(weights)), weights)[0]
        source = recipe.tasks.sources[index]
        task = (
            _item_task(source, index, generator)
            if isinstance(source, ItemSource)
            else _gym_task(source, index, generator)
        )
        if task.question not in avoid:
            return task
    assert task is not None
    return task  # the sources are smaller than the held-out set: better a known question than none


def _item_task(source: ItemSource, index: int, generator: random.Random) -> Task:
    item = generator.choice(source.items)
    return Task(index, item.prompt, {"question": item.prompt, "answer": item.answer})


def _gym_task(source: GymSource, index: int, generator: random.Random) -> Task:
    entry = gym_dataset(source, generator.getrandbits(31))[0]
    return Task(index, str(entry["question"])[:MAX_QUESTION_CHARS], entry)


def gym_dataset(source: GymSource, seed: int) -> Any:
    """The reasoning_gym dataset of a source, of size 1, under a seed."""
    return reasoning_gym.create_dataset(source.dataset, seed=seed, size=1, **source.config)
