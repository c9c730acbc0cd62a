"""One run: peers that take turns in one learner, each with its own weights and optimiser state."""

import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from bench.collective.arms import ARMS, Job
from bench.collective.product import merge_products
from swarm.judging.scores import advantages, is_informative
from swarm.recipe import catalogue
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import GymSource, Heldout, ItemSource, Recipe
from swarm.recipe.tasks import Task, derive_tasks, heldout_tasks
from swarm.recipe.verifiers import verify
from swarm.round import heldout
from swarm.round.benefit import Paired
from swarm.training import tiny
from swarm.training.cache import make_once
from swarm.training.learner import Completion, Learner, TrainingGroup
from swarm.training.merging import Delta, Merged, Stride, decode, encode, merge, steps
from swarm.training.obtain import obtain
from swarm.training.wire import WeightsRefused

RECIPES = {"smollm2": "arithmetic", "tiny": "tiny"}
OWN_TASKS: dict[str, list[dict[str, int]]] = {
    "tiny": [{"min_word_len": 3, "max_word_len": 3}, {"min_word_len": 4, "max_word_len": 4}]
}
"""Where a recipe has one source of tasks: what splits it among peers with tasks of their own."""
HELDOUT = 96
SAMPLES = 8
MEASUREMENTS = 25
"""Points of the held-out curve of one peer; all peers are measured at the end."""
OTHER_SEED = 7
MAX_SEED = 2**31

State = dict[str, tuple[torch.Tensor, ...]]
"""Weight, moments and step by name."""


@dataclass
class Sampled:
    """One prompt's completions with the rewards that the verifier gives."""

    author: int
    prompt: tuple[int, ...]
    completions: Sequence[Completion]
    rewards: list[float]

    def training(self, me: int, scale: float, other_model: bool) -> TrainingGroup:
        return TrainingGroup(
            prompt=self.prompt,
            completions=tuple((one.tokens, one.logprobs) for one in self.completions),
            advantages=tuple(scale * value for value in advantages(self.rewards, scale=True)),
            own=self.author == me,
            temperature=1.0,
            rescored=other_model,
        )


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
        _copy(self.state, _live(self.learner))

    def get_up(self) -> None:
        _copy(_live(self.learner), self.state)


def play(job: Job, device: str | None, deadline: float, measure_every: int | None = None) -> dict[str, Any] | None:
    """Run a job until its last round, or until `deadline` (unix seconds), and say what came of it; None where there
    is no time to begin."""
    started = time.time()
    if started >= deadline:
        return None
    run = _Run(job, device, measure_every)
    while run.round < run.rounds and time.time() < deadline:
        run.play_round()
    complete = run.round == run.rounds
    return {**job.key(), "complete": complete, "wall_s": round(time.time() - started, 1), **run.result(complete)}


class _Run:
    def __init__(self, job: Job, device: str | None, measure_every: int | None) -> None:
        self.arm = ARMS[job.arm]
        self.job = job
        self.rounds = round(job.rounds / self.arm.own)
        self.round = 0
        self._recipe = _recipe(job.model)
        self._starts = [_start(job.model, index % self.arm.models, device) for index in range(job.peers)]
        self._peers = [self._peer(index, device) for index in range(job.peers)]
        self._honest = self._peers[:-1] if self.arm.poison else self._peers
        self._every = measure_every or max(1, self.rounds // MEASUREMENTS)
        self.curve = [[0, self._measure(self._peers[0])]]
        self.rewards: list[float] = []

    def _peer(self, index: int, device: str | None) -> Peer:
        learner = _learner(self.job.model, index % self.arm.models, device)
        learner.set_learning_rate(self.job.learning_rate)
        learner._updater._trainer.fetched_ratio_cap = self.arm.fetched_ratio_cap
        state = {
            name: tuple(torch.zeros_like(tensor) for tensor in tensors) for name, tensors in _live(learner).items()
        }
        recipe = self._recipe
        if self.arm.tasks == "own":
            sources = _sources(self.job.model, recipe)
            own = {"sources": (sources[index % len(sources)],)}
            recipe = recipe.model_copy(update={"tasks": recipe.tasks.model_copy(update=own)})
        for name, weight in self._starts[index].items():
            state[name][0].copy_(weight)
        return Peer(learner, recipe, state, steps=self.arm.steps if isinstance(self.arm.steps, int) else 1)

    def play_round(self) -> None:
        self.round += 1
        sampled = [self._sample(index, peer) for index, peer in enumerate(self._peers)]
        for index, peer in enumerate(self._peers):
            if self.arm.poison and peer is self._peers[-1]:
                sampled[index] = [self._lie(group) for group in sampled[index]]
        for index, peer in enumerate(self._peers):
            peer.sit_down()
            with _timed(peer, "update"):
                report = peer.learner.update(self._batch(index, sampled), peer.steps)
            peer.trained_rows += report.rows
            peer.get_up()
        if self.arm.rule != "none" and self.round % self.arm.every == 0:
            self._merge(sampled)
        own = [reward for groups in sampled[: len(self._honest)] for group in groups for reward in group.rewards]
        self.rewards.append(sum(own) / len(own))
        if self.round % self._every == 0:
            self.curve.append([self.round, self._measure(self._peers[0])])

    def _sample(self, index: int, peer: Peer) -> list[Sampled]:
        count = round(self.arm.own * self.job.groups) * (1 + self._practice(index))
        tasks = derive_tasks(peer.recipe, self._seed("tasks", index), count)
        prompts = [_encode(peer, task) for task in tasks]
        peer.sit_down()
        with _timed(peer, "sample"):
            drawn = peer.learner.generate(
                prompts, peer.recipe.stages.answer, seed=int.from_bytes(self._seed("sample", index)[:4], "big") // 2
            )
        peer.generated += sum(map(len, drawn))
        return [
            Sampled(index, prompt, found, [verify(peer.recipe, task, one.text) for one in found])
            for task, prompt, found in zip(tasks, prompts, drawn, strict=True)
        ]

    def _practice(self, index: int) -> int:
        return self.arm.practice if index == 0 else 0

    def _batch(self, me: int, sampled: list[list[Sampled]]) -> list[TrainingGroup]:
        own = [group for group in sampled[me] if is_informative(group.rewards)]
        fetched = [
            group for groups in sampled for group in groups if group.author != me and is_informative(group.rewards)
        ]
        draw = random.Random(self._seed("fetch", me))
        taken = draw.sample(fetched, min(len(fetched), round(self.arm.fetched * self.job.groups)))
        # Rows without advantage add nothing but to dapo's denominator, the number of tokens.
        scale = 1.0 if self.arm.filtered else _tokens(own) / max(1, _tokens(sampled[me]))
        learner = self._peers[me].learner
        return [group.training(me, scale, self._peers[group.author].learner is not learner) for group in (*own, *taken)]

    def _merge(self, sampled: list[list[Sampled]]) -> None:
        deltas: list[Delta] = []
        for peer in self._peers:
            peer.sit_down()
            deltas.append(peer.learner.delta())
        wire = self._sent(deltas)
        reward = {
            str(index): sum(sum(group.rewards) / SAMPLES for group in groups) / len(groups)
            for index, groups in enumerate(sampled)
        }
        moments = self._mean_moments() if self.arm.moments == "mean" else None
        for index, peer in enumerate(self._honest):
            others = self._drawn(index, wire)
            with _timed(peer, "merge"):
                peer.stride.arrive(deltas[index])
                merged = merge(self.arm.rule, deltas[index], others, reward, reward[str(index)], peer.stride.length)
                if self.arm.product and merged.delta is not None:
                    every = [deltas[index], *(others[name] for name in merged.partners)]
                    start = self._starts[index]
                    merged = Merged(merge_products(every, start), merged.partners, merged.refused)
            peer.refused += merged.refused + self._malformed
            if self.arm.steps == "per_peer":
                peer.steps = steps("per_peer", 1 + len(merged.partners))
            if merged.delta is not None:
                self._take(index, peer, deltas[index], merged, moments)
            peer.sit_down()
            peer.stride.leave(peer.learner.delta())

    def _drawn(self, me: int, wire: dict[str, Delta]) -> dict[str, Delta]:
        """The deltas that a peer merges with its own."""
        learner = self._peers[me].learner
        names = [name for name in wire if name != str(me) and self._peers[int(name)].learner is learner]
        drawn = random.Random(self._seed("merge", me)).sample(names, min(len(names), self.arm.fetch_peers))
        return {name: wire[name] for name in sorted(drawn, key=int)}

    def _take(
        self, index: int, peer: Peer, own: Delta, merged: Merged, moments: dict[str, list[torch.Tensor]] | None
    ) -> None:
        assert merged.delta is not None
        peer.sit_down()
        with _timed(peer, "validate"):
            before = self._answers(index, peer)
            peer.learner.move_to(merged.delta)
            after = self._answers(index, peer)
        if Paired.of_answers(before, after).falls:
            peer.refused["held-out fell"] += 1
            peer.learner.move_to(own)
        else:
            peer.partners += len(merged.partners)
        peer.get_up()
        for name, (_, first, second, _step) in peer.state.items():
            if self.arm.moments == "zero":
                first.zero_()
            elif moments is not None:
                first.copy_(moments[name][0])
                second.copy_(moments[name][1])

    def _answers(self, index: int, peer: Peer) -> list[bool]:
        if not self.arm.validation:
            return []
        tasks = derive_tasks(peer.recipe, self._seed("validation", index), self.arm.validation)
        return heldout.answers(peer.learner, peer.recipe, tasks)

    def _sent(self, deltas: list[Delta]) -> dict[str, Delta]:
        """What arrives of each peer's delta, through the real encoding, the last one's poisoned."""
        arrived: dict[str, Delta] = {}
        self._malformed: Counter[str] = Counter()
        for index, delta in enumerate(deltas):
            if self.arm.poison and index == len(deltas) - 1:
                delta = self._poisoned(delta)
            try:
                arrived[str(index)] = decode(encode(delta), delta)
            except WeightsRefused as error:
                self._malformed[error.reason] += 1
        return arrived

    def _poisoned(self, delta: Delta) -> Delta:
        noise = torch.Generator().manual_seed(self.round)
        match self.arm.poison:
            case "negated":
                return {name: -tensor for name, tensor in delta.items()}
            case "huge":
                return {name: 50 * tensor for name, tensor in delta.items()}
            case "nan":
                return {name: tensor * math.nan for name, tensor in delta.items()}
            case _:
                return {
                    name: tensor.std(correction=0) * torch.randn(tensor.shape, generator=noise).to(tensor.device)
                    for name, tensor in delta.items()
                }

    def _lie(self, group: Sampled) -> Sampled:
        """The same completions with log-probabilities that are noise."""
        draw = random.Random(self._seed("lie", group.author))
        lied = [
            Completion(one.tokens, tuple(-10 * draw.random() for _ in one.tokens), one.finished, one.text)
            for one in group.completions
        ]
        return Sampled(group.author, group.prompt, lied, group.rewards)

    def _mean_moments(self) -> dict[str, list[torch.Tensor]]:
        states = [peer.state for peer in self._honest]
        return {name: [torch.stack([s[name][k] for s in states]).mean(0) for k in (1, 2)] for name in states[0]}

    def _measure(self, peer: Peer) -> float:
        peer.sit_down()
        right = heldout.answers(peer.learner, peer.recipe, heldout_tasks(self._recipe))
        return round(sum(right) / len(right), 4)

    def _seed(self, *parts: object) -> bytes:
        return sha256(repr((self.job.seed, self.round, *parts)).encode()).digest()

    def result(self, complete: bool) -> dict[str, Any]:
        honest = self._honest
        share = len(honest)
        return {
            "played": self.round,
            "curve": self.curve,
            "final": round(sum(map(self._measure, honest)) / share, 4) if complete else None,
            "rewards": [round(reward, 4) for reward in self.rewards],
            "generated": sum(peer.generated for peer in honest) / share,
            "trained_rows": sum(peer.trained_rows for peer in honest) / share,
            "seconds": {
                what: round(sum(peer.seconds[what] for peer in honest) / share, 2)
                for what in ("sample", "update", "merge", "validate")
            },
            "partners": sum(peer.partners for peer in honest) / share / max(1, self.round // self.arm.every),
            "refused": dict(sum((peer.refused for peer in honest), Counter())),
            "device": honest[0].learner.device_name,
        }


def _recipe(model: str) -> Recipe:
    recipe = catalogue.find(RECIPES[model])
    answer = recipe.stages.answer.model_copy(update={"samples": SAMPLES})
    return recipe.model_copy(
        update={
            "heldout": Heldout(count=HELDOUT, seed=recipe.heldout.seed),
            "stages": recipe.stages.model_copy(update={"answer": answer}),
            "grpo": recipe.grpo.model_copy(update={"micro_batch": 256}),
        }
    )


def _sources(model: str, recipe: Recipe) -> Sequence[GymSource | ItemSource]:
    """What peers with tasks of their own have one each of."""
    if model not in OWN_TASKS:
        return recipe.tasks.sources
    return [recipe.tasks.sources[0].model_copy(update={"config": config}) for config in OWN_TASKS[model]]


@lru_cache(maxsize=4)
def _learner(model: str, which: int, device: str | None) -> Learner:
    recipe = _recipe(model)
    folder = _other_tiny() if which else obtain(recipe.model.id, print)
    return Learner.load(
        folder, recipe.model, recipe.grpo, seed=recipe.heldout.seed % MAX_SEED, device=device, threads=1
    )


@lru_cache(maxsize=4)
def _start(model: str, which: int, device: str | None) -> dict[str, torch.Tensor]:
    """The weights that a learner starts from; asked for the first time before it has learnt anything."""
    return {name: tensors[0].clone() for name, tensors in _live(_learner(model, which, device)).items()}


def _other_tiny() -> Path:
    """A tiny model of other weights: the same recipe from another seed."""

    def build(folder: Path) -> None:
        usual, tiny.SEED = tiny.SEED, OTHER_SEED
        try:
            tiny.build(folder, print)
        finally:
            tiny.SEED = usual

    return make_once(f"tiny-{tiny.VERSION}-other", 10_000_000, build, print)


def _live(learner: Learner) -> State:
    """The tensors that the learner works with: weight, both moments, step, by name."""
    state = learner._updater.optimizer.state
    return {
        name: (weight.detach(), state[weight]["exp_avg"], state[weight]["exp_avg_sq"], state[weight]["step"])
        for name, weight in learner._loaded.trainable.items()
    }


def _copy(source: State, target: State) -> None:
    for name, tensors in source.items():
        for into, tensor in zip(target[name], tensors, strict=True):
            into.copy_(tensor)


def _encode(peer: Peer, task: Task) -> tuple[int, ...]:
    prompts = peer.recipe.prompts
    return peer.learner.encode(answer_prompt(peer.recipe, task), chat=prompts.chat, system=prompts.system)


def _tokens(groups: Sequence[Sampled]) -> int:
    return sum(len(one.tokens) for group in groups for one in group.completions)


class _timed:
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
