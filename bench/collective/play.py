"""One run: peers that take turns in one learner, each with its own weights and optimiser state."""

import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import torch

from bench.collective import poison
from bench.collective.arms import ARMS, Job
from bench.collective.peer import Peer, learner_of, live, recipe_of, sources_of, start_of, timed
from bench.collective.product import merge_products
from bench.collective.rounds import WholeRound
from bench.collective.sampled import Sampled
from swarm.judging.scores import is_informative
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.tasks import Task, derive_tasks, heldout_tasks
from swarm.recipe.verifiers import verify
from swarm.round import heldout
from swarm.round.assignment import Assigner
from swarm.round.benefit import Paired
from swarm.training.learner import Completion, TrainingGroup
from swarm.training.merging import Delta, Merged, decode, encode, merge, steps
from swarm.training.wire import WeightsRefused

MEASUREMENTS = 25
"""Points of the held-out curve of one peer; all peers are measured at the end."""


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
        self._recipe = recipe_of(job.model, self.arm.models, self.arm.learn_from)
        self._starts = [start_of(job.model, index % self.arm.models, device) for index in range(job.peers)]
        self._peers = [self._peer(index, device) for index in range(job.peers)]
        self._honest = self._peers[:-1] if self.arm.poison else self._peers
        self._assigner = Assigner(self._recipe)
        self._every = measure_every or max(1, self.rounds // MEASUREMENTS)
        self.curve = [[0, self._measure(self._peers[0])]]
        self.rewards: list[float] = []

    def _peer(self, index: int, device: str | None) -> Peer:
        learner = learner_of(self.job.model, index % self.arm.models, device)
        learner._updater._trainer.fetched_ratio_cap = self.arm.fetched_ratio_cap
        state = {name: tuple(torch.zeros_like(tensor) for tensor in tensors) for name, tensors in live(learner).items()}
        recipe = self._recipe
        if self.arm.tasks == "own":
            sources = sources_of(self.job.model, recipe)
            own = {"sources": (sources[index % len(sources)],)}
            recipe = recipe.model_copy(update={"tasks": recipe.tasks.model_copy(update=own)})
        for name, weight in self._starts[index].items():
            state[name][0].copy_(weight)
        peer = Peer(learner, recipe, state, steps=self.arm.steps if isinstance(self.arm.steps, int) else 1)
        if self.arm.rule != "none":
            peer.sit_down()
            peer.stride.leave(learner.delta())
        return peer

    def _rate(self) -> float:
        """Of the next update."""
        if math.isinf(self.arm.rise):
            return self.job.learning_rate
        return min(self.job.learning_rate, self._recipe.grpo.learning_rate * (1 + self.arm.rise * (self.round - 1)))

    def play_round(self) -> None:
        self.round += 1
        for peer in self._peers:
            peer.learner.set_learning_rate(self._rate())
        whole: WholeRound | None = None
        if self.arm.stages:
            whole = WholeRound(self._recipe, self._assigner, self.round, self._seed("round"), self._peers)
            rewards = whole.rewards()
        else:
            sampled = [self._sample(index, peer) for index, peer in enumerate(self._peers)]
            if self.arm.poison:
                sampled[-1] = [self._lie(group) for group in sampled[-1]]
            rewards = [[group.rewards for group in groups] for groups in sampled]
        for index, peer in enumerate(self._peers):
            peer.sit_down()
            with timed(peer, "update"):
                fetched = round(self.arm.fetched * self.job.groups)
                batch = whole.batch(index, fetched) if whole else self._batch(index, sampled, fetched)
                report = peer.learner.update(batch, peer.steps)
            peer.trained_rows += report.rows
            peer.get_up()
        means = [sum(map(sum, groups)) / sum(map(len, groups)) for groups in rewards]
        if self.arm.rule != "none" and self.round % self.arm.every == 0:
            self._merge(means)
        self.rewards.append(sum(means[: len(self._honest)]) / len(self._honest))
        if self.round % self._every == 0:
            self.curve.append([self.round, self._measure(self._peers[0])])

    def _sample(self, index: int, peer: Peer) -> list[Sampled]:
        count = round(self.arm.own * self.job.groups) * (1 + self._practice(index))
        tasks = derive_tasks(peer.recipe, self._seed("tasks", index), count)
        prompts = [_encode(peer, task) for task in tasks]
        peer.sit_down()
        with timed(peer, "sample"):
            drawn = peer.learner.generate(
                prompts, peer.recipe.stages.answer, seed=int.from_bytes(self._seed("sample", index)[:4], "big") // 2
            )
        peer.generated += sum(map(len, drawn))
        return [
            Sampled(index, task, prompt, found, [verify(peer.recipe, task, one.text) for one in found])
            for task, prompt, found in zip(tasks, prompts, drawn, strict=True)
        ]

    def _practice(self, index: int) -> int:
        return self.arm.practice if index == 0 else 0

    def _batch(self, me: int, sampled: list[list[Sampled]], count: int) -> list[TrainingGroup]:
        own = [group for group in sampled[me] if is_informative(group.rewards)]
        others = [
            read
            for groups in sampled
            for group in groups
            if group.author != me and is_informative((read := self._in_own_tokens(me, group)).rewards)
        ]
        draw = random.Random(self._seed("fetch", me))
        taken = self._capped(draw.sample(others, len(others)), count)
        # Rows without advantage add nothing but to dapo's denominator, the number of tokens.
        scale = 1.0 if self.arm.filtered else _tokens(own) / max(1, _tokens(sampled[me]))
        learner = self._peers[me].learner
        return [
            group.training(me, scale, self._peers[group.author].learner is not learner, self.arm.learn_from)
            for group in (*own, *taken)
        ]

    def _capped(self, groups: Sequence[Sampled], count: int) -> list[Sampled]:
        """The first `count` groups, of which no author has more than the arm's share."""
        most = max(1, math.floor(count * self.arm.author_share))
        taken: list[Sampled] = []
        for group in groups:
            if len(taken) < count and sum(one.author == group.author for one in taken) < most:
                taken.append(group)
        return taken

    def _in_own_tokens(self, me: int, group: Sampled) -> Sampled:
        """A group of another tokenizer, read by its texts as a swarm's peers do; what is too long so is left out."""
        reader, author = self._peers[me], self._peers[group.author]
        if reader.learner.tokenizer_fingerprint == author.learner.tokenizer_fingerprint:
            return group
        limit = self._recipe.stages.answer.max_new_tokens
        fitting = [
            (Completion(tokens, (0.0,) * len(tokens), one.finished, one.text), reward)
            for one, reward in zip(group.completions, group.rewards, strict=True)
            if (tokens := reader.learner.completion_tokens(one.text, one.finished, limit)) is not None
        ]
        completions, rewards = [one for one, _ in fitting], [reward for _, reward in fitting]
        return Sampled(group.author, group.task, _encode(reader, group.task), completions, rewards)

    def _merge(self, means: list[float]) -> None:
        deltas: list[Delta] = []
        for peer in self._peers:
            peer.sit_down()
            deltas.append(peer.learner.delta())
        wire = self._sent(deltas)
        reward = {str(index): mean for index, mean in enumerate(means)}
        moments = self._mean_moments() if self.arm.moments == "mean" else None
        for index, peer in enumerate(self._honest):
            others = self._drawn(index, wire)
            with timed(peer, "merge"):
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
        with timed(peer, "validate"):
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
                delta = poison.weights(self.arm.poison, delta, self.round)
            try:
                arrived[str(index)] = decode(encode(delta), delta)
            except WeightsRefused as error:
                self._malformed[error.reason] += 1
        return arrived

    def _lie(self, group: Sampled) -> Sampled:
        """What the poisoner shows in place of a group of its own."""
        liar = self._peers[-1]
        if self.arm.poison_groups == "padded":
            liar.sit_down()
            return poison.padded(group, liar.learner, self._recipe)
        return poison.lied(group, self._seed("lie", group.author))

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
        finals = [self._measure(peer) for peer in honest] if complete else []
        return {
            "played": self.round,
            "curve": self.curve,
            "final": round(sum(finals) / share, 4) if complete else None,
            "finals": finals,
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


def _tokens(groups: Sequence[Sampled]) -> int:
    return sum(len(one.tokens) for group in groups for one in group.completions)


def _encode(peer: Peer, task: Task) -> tuple[int, ...]:
    prompts = peer.recipe.prompts
    return peer.learner.encode(answer_prompt(peer.recipe, task), chat=prompts.chat, system=prompts.system)
