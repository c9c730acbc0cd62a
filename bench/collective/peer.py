"""A peer of the bench: its recipe, and its weights and optimiser state, which take turns in one learner."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch

from bench import gemma
from swarm.recipe import catalogue
from swarm.recipe.schema import GymSource, Heldout, ItemSource, LearnFrom, Recipe
from swarm.training import tiny
from swarm.training.cache import make_once
from swarm.training.learner import Learner
from swarm.training.merging import Stride
from swarm.training.obtain import obtain

RECIPES = {"smollm2": "arithmetic", "tiny": "tiny"}
OWN_TASKS: dict[str, list[dict[str, int]]] = {
    "tiny": [{"min_word_len": 3, "max_word_len": 3}, {"min_word_len": 4, "max_word_len": 4}]
}
"""Where a recipe has one source of tasks: what splits it among peers with tasks of their own."""
HELDOUT = 96
SAMPLES = 8
OTHER_SEED = 7
MAX_SEED = 2**31

State = dict[str, tuple[torch.Tensor, ...]]
"""Weight, moments and step by name."""


@dataclass
class Peer:
    """What one peer has of its own."""

    learner: Learner
    recipe: Recipe
    """With the tasks that it practises."""
    state: State
    generated: int = 0
    trained_rows: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    partners: int = 0
    steps: int = 1
    """Of the next update."""
    stride: Stride = field(default_factory=Stride)
    refused: Counter[str] = field(default_factory=Counter)

    def sit_down(self) -> None:
        """Put this peer's weights and optimiser state into the learner."""
        copy_state(self.state, live(self.learner))

    def get_up(self) -> None:
        copy_state(live(self.learner), self.state)


class timed:
    """Adds the seconds of a block to a peer's account: of the processor, so that other work on the machine does not
    count, or with a GPU of the clock."""

    def __init__(self, peer: Peer, what: str) -> None:
        self._peer, self._what = peer, what

    def __enter__(self) -> None:
        self._started = _now()

    def __exit__(self, *_: object) -> None:
        self._peer.seconds[self._what] += _now() - self._started


def _now() -> float:
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def recipe_of(model: str, models: int = 1, learn_from: LearnFrom = "winners") -> Recipe:
    """The recipe of a run with so many starting models; several have no chat template in common."""
    recipe = catalogue.find(RECIPES[model])
    answer = recipe.stages.answer.model_copy(update={"samples": SAMPLES})
    return recipe.model_copy(
        update={
            "heldout": Heldout(count=HELDOUT, seed=recipe.heldout.seed),
            "stages": recipe.stages.model_copy(update={"answer": answer}),
            "prompts": recipe.prompts.model_copy(update={"chat": recipe.prompts.chat and models == 1}),
            "sharing": recipe.sharing.model_copy(update={"learn_from": learn_from}),
            "grpo": recipe.grpo.model_copy(update={"micro_batch": 256}),
        }
    )


def sources_of(model: str, recipe: Recipe) -> Sequence[GymSource | ItemSource]:
    """What peers with tasks of their own have one each of."""
    if model not in OWN_TASKS:
        return recipe.tasks.sources
    return [recipe.tasks.sources[0].model_copy(update={"config": config}) for config in OWN_TASKS[model]]


@lru_cache(maxsize=4)
def learner_of(model: str, which: int, device: str | None) -> Learner:
    recipe = recipe_of(model)
    folder = OTHER[model]() if which else obtain(recipe.model.id, print)
    return Learner.load(
        folder, recipe.model, recipe.grpo, seed=recipe.heldout.seed % MAX_SEED, device=device, threads=1
    )


@lru_cache(maxsize=4)
def start_of(model: str, which: int, device: str | None) -> dict[str, torch.Tensor]:
    """The weights that a learner starts from; asked for the first time before it has learnt anything."""
    return {name: tensors[0].clone() for name, tensors in live(learner_of(model, which, device)).items()}


def _other_tiny() -> Path:
    """A tiny model of other weights: the same recipe from another seed."""

    def build(folder: Path) -> None:
        usual, tiny.SEED = tiny.SEED, OTHER_SEED
        try:
            tiny.build(folder, print)
        finally:
            tiny.SEED = usual

    return make_once(f"tiny-{tiny.VERSION}-other", 10_000_000, build, print)


OTHER = {"tiny": _other_tiny, "smollm2": gemma.obtain}
"""The second starting model, where peers have two."""


def live(learner: Learner) -> State:
    """The tensors that the learner works with: weight, both moments, step, by name."""
    state = learner._updater.optimizer.state
    return {
        name: (weight.detach(), state[weight]["exp_avg"], state[weight]["exp_avg_sq"], state[weight]["step"])
        for name, weight in learner._loaded.trainable.items()
    }


def copy_state(source: State, target: State) -> None:
    for name, tensors in source.items():
        for into, tensor in zip(target[name], tensors, strict=True):
            into.copy_(tensor)
