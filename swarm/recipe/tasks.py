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
    """What the verifier needs: `answer` (None where only the jury can tell), and the dataset's metadata; `seal` where
    the answer is sealed."""


def derive_tasks(recipe: Recipe, seed: bytes, count: int) -> list[Task]:
    """`count` tasks from a seed, none of them a held-out question unless the sources have no other."""
    return [_derive(recipe, _index(seed, index), heldout=False)[0] for index in range(count)]


def shared_tasks(recipe: Recipe, seed: bytes) -> list[Task]:
    """The tasks that every peer answers in the round with this seed."""
    return derive_tasks(recipe, sha256(b"shared" + seed).digest(), recipe.tasks.shared)


def own_tasks(recipe: Recipe, seed: bytes, peer_id: str) -> list[Task]:
    """The tasks that one peer alone answers in the round with this seed."""
    return derive_tasks(recipe, sha256(b"own" + seed + peer_id.encode()).digest(), recipe.tasks.own)


def heldout_tasks(recipe: Recipe) -> list[Task]:
    """The held-out set, the same for every peer and every round: distinct questions of the fifth of all questions that
    no round trains on, up to the recipe's number."""
    return list(_heldout(recipe))


def is_heldout(recipe: Recipe, question: str) -> bool:
    """Whether a question belongs to the fifth that is never trained on: its hash decides, so small sources are parted
    as large ones are."""
    return sha256(f"{recipe.heldout.seed} {question}".encode()).digest()[0] < 256 // 5


@lru_cache(maxsize=4)
def _heldout(recipe: Recipe) -> tuple[Task, ...]:
    seed = sha256(b"heldout" + str(recipe.heldout.seed).encode()).digest()
    chosen: dict[str, Task] = {}
    for index in range(4 * recipe.heldout.count):
        task, found = _derive(recipe, _index(seed, index), heldout=True)
        if found and len(chosen) < recipe.heldout.count:
            chosen.setdefault(task.question, task)
    return tuple(chosen.values())


def _derive(recipe: Recipe, seed: bytes, *, heldout: bool) -> tuple[Task, bool]:
    """A task of the wanted kind and True, or any task and False where the sources seem to have none."""
    generator = random.Random(seed)
    weights = [source.weight for source in recipe.tasks.sources]
    for _ in range(_ATTEMPTS):
        index = generator.choices(range(len(weights)), weights)[0]
        source = recipe.tasks.sources[index]
        if isinstance(source, ItemSource):
            task = _item_task(source, index, generator)
        else:
            task = _gym_task(source, index, generator)
        if is_heldout(recipe, task.question) == heldout:
            return task, True
    return task, False


def _index(seed: bytes, index: int) -> bytes:
    return sha256(seed + index.to_bytes(4, "big")).digest()


def _item_task(source: ItemSource, index: int, generator: random.Random) -> Task:
    item = generator.choice(source.items)
    return Task(index, item.prompt, {"question": item.prompt, "answer": item.answer, "seal": item.seal})


def _gym_task(source: GymSource, index: int, generator: random.Random) -> Task:
    number = generator.getrandbits(31)
    try:
        entry = gym_dataset(source)[number]
    except IndexError:  # a few datasets make all their entries up front, so each task needs one of its own
        entry = _make(source, number)[0]
    return Task(index, str(entry["question"])[:MAX_QUESTION_CHARS], entry)


def gym_dataset(source: GymSource) -> Any:
    """The reasoning_gym dataset of a source. Making one may read a word list, so it is made once."""
    return _cached(source.model_dump_json())


@lru_cache(maxsize=64)
def _cached(source: str) -> Any:
    return _make(GymSource.model_validate_json(source), 0)


def _make(source: GymSource, seed: int) -> Any:
    return reasoning_gym.create_dataset(source.dataset, seed=seed, size=1, **source.config)
