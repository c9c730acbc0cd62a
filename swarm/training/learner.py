"""One peer's model: it answers, judges and learns. The facade of this room; others need no more than this file."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch

from swarm.errors import SwarmError
from swarm.recipe.schema import Grpo, StageSettings
from swarm.recipe.schema import Model as ModelSettings
from swarm.training import checkpoint, memory, text, wire
from swarm.training.energy import Energy
from swarm.training.groups import TrainingGroup
from swarm.training.grpo import Plan, Updater, UpdateReport
from swarm.training.layout import Tokens
from swarm.training.merging import Delta, Origin
from swarm.training.model import Loaded, fingerprint_of, load
from swarm.training.replay import Replayed, replay
from swarm.training.sampler import Drawn, LocalSampler, Sampler, noise
from swarm.training.scorer import sum_logprobs

__all__ = ["Completion", "Counters", "Learner", "Plan", "TrainingGroup", "UpdateReport"]


@dataclass(frozen=True)
class Completion:
    tokens: Tokens
    """As sampled, the end token included when finished."""
    logprobs: tuple[float, ...]
    """Behaviour log-probabilities: natural logarithm, fp32, the temperature applied as in the update."""
    finished: bool
    """Ended by itself, not by `max_new_tokens`."""
    text: str


@dataclass
class Counters:
    """What this learner did since it was loaded."""

    generated_tokens: int = 0
    generation_seconds: float = 0.0
    scored_tokens: int = 0
    scoring_seconds: float = 0.0
    trained_tokens: int = 0
    update_seconds: float = 0.0

    @property
    def generated_tokens_per_second(self) -> float:
        return self.generated_tokens / self.generation_seconds if self.generation_seconds else 0.0


class Learner:
    """Not safe for use by several threads at once."""

    def __init__(self, loaded: Loaded, name: str, grpo: Grpo, *, seed: int) -> None:
        self.name = name
        self.device_name = loaded.device.name
        self.tokenizer_fingerprint = loaded.tokenizer_fingerprint
        """SHA-256 (hex); two peers with the same one mean the same by a token id."""
        self.counters = Counters()
        self._loaded = loaded
        self._shape = memory.Shape.of(loaded.model.config)
        self._energy = Energy(loaded.device.place)
        self._sampler: Sampler = LocalSampler(loaded.parts, loaded.device, loaded.end_ids, loaded.pad)
        self._updater = Updater(loaded, grpo, seed=seed)
        self._fingerprint: str | None = None
        self.trained_weights = sum(weight.numel() for weight in loaded.trainable.values())
        """How many numbers training changes."""
        self._origin = Origin(loaded.trainable) if 2 * self.trained_weights < wire.MAX_BLOB_BYTES else None

    @classmethod
    def load(
        cls,
        directory: Path,
        model: ModelSettings,
        grpo: Grpo,
        *,
        seed: int,
        device: str | None = None,
        threads: int | None = None,
        sampler: Literal["local", "vllm"] = "local",
    ) -> "Learner":
        """The model in `directory` (see `swarm.training.obtain`), ready to sample and to train.

        Raises:
            SwarmError: the directory holds no model that loads, the device does not exist, or vLLM is not there.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        loaded = load(directory, model, seed=seed, device=device)
        learner = cls(loaded, model.id, grpo, seed=seed)
        if sampler == "vllm":
            from swarm.training.vllm_sampler import VllmSampler

            learner._sampler = VllmSampler(loaded, directory, seed)
        return learner

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over tokenizer, starting weights and present trainable weights; computed once per update."""
        if self._fingerprint is None:
            present = fingerprint_of(self._loaded.trainable.items())
            whole = f"{self.tokenizer_fingerprint} {self._loaded.base_fingerprint} {present}"
            self._fingerprint = sha256(whole.encode()).hexdigest()
        return self._fingerprint

    @property
    def vocabulary_size(self) -> int:
        """Token ids are below this."""
        return int(self._loaded.model.get_input_embeddings().weight.shape[0])

    @property
    def updates(self) -> int:
        """Steps made, those before a restored checkpoint included."""
        return self._updater.updates

    def encode(self, prompt: str, *, chat: bool, system: str) -> Tokens:
        """Token ids of a prompt: in the chat template up to the model's turn, or, without `chat`, system and prompt as
        plain text. Special tokens that stand in the texts stay text.

        Raises:
            SwarmError: `chat` with a model that has no chat template, or nothing to encode.
        """
        if chat:
            return text.encode_chat(self._loaded.tokenizer, prompt, system)
        tokenizer = self._loaded.tokenizer
        ids = text.begins_with(tokenizer) + text.encode_plain(tokenizer, f"{system}\n{prompt}" if system else prompt)
        if not ids:
            raise SwarmError("an empty prompt has no tokens; write something into the recipe's prompt")
        return ids

    def encode_words(self, words: str) -> Tokens:
        """Token ids of what stands after a prompt: nothing is put before it."""
        return text.encode_plain(self._loaded.tokenizer, words)

    def encode_pair(self, before: str, after: str) -> tuple[Tokens, Tokens]:
        """Plain texts as one tokenization parted where `after` begins, for `log_likelihood`."""
        return text.encode_pair(self._loaded.tokenizer, before, after)

    def decode(self, tokens: Sequence[int]) -> str:
        return text.decode(self._loaded.tokenizer, tokens)

    def generate(self, prompts: Sequence[Tokens], settings: StageSettings, *, seed: int) -> list[list[Completion]]:
        """`settings.samples` completions per prompt, in the order of the prompts.

        Raises:
            SwarmError: memory is short of even one row.
        """
        drawn = self._draw(prompts, settings.samples, settings.max_new_tokens, settings.temperature, seed)
        return [
            [Completion(one.tokens, one.logprobs, one.finished, self.decode(one.tokens)) for one in of_prompt]
            for of_prompt in drawn
        ]

    def greedy(self, prompts: Sequence[Tokens], max_new_tokens: int) -> list[str]:
        """The likeliest token after token: one text per prompt."""
        return [self.decode(one.tokens) for [one] in self._draw(prompts, 1, max_new_tokens, None, 0)]

    def completion_of(self, prompt: Tokens, answer: str, settings: StageSettings) -> Completion | None:
        """A given answer as if it had been sampled; None where it does not fit into `max_new_tokens`."""
        tokens = self.completion_tokens(answer, True, settings.max_new_tokens)
        if tokens is None:
            return None
        [found] = self.replay(prompt, [(tokens, True)], settings, seed=0, place=0)
        return Completion(tokens, found.logprobs, True, self.decode(tokens))

    def completion_tokens(self, words: str, finished: bool, limit: int) -> Tokens | None:
        """A completion that says `words`, in this tokenizer's tokens; None where it takes none or more than `limit`."""
        tokens = self.encode_words(words) + ((min(self._loaded.end_ids),) if finished else ())
        return tokens if 0 < len(tokens) <= limit else None

    def replay(
        self,
        prompt: Tokens,
        completions: Sequence[tuple[Tokens, bool]],
        settings: StageSettings,
        *,
        seed: int,
        place: int,
    ) -> list[Replayed]:
        """Recompute the completions, each (tokens, finished), of the prompt at `place` in a call of `generate`."""
        uniforms = [noise(seed, place, sample, settings.max_new_tokens) for sample in range(len(completions))]
        return replay(self._loaded, prompt, completions, settings.temperature, uniforms)

    def log_likelihood(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[float]:
        """Sum of log p(continuation | prefix) in nats, at temperature 1, per (prefix, continuation).

        An empty prefix becomes BOS where the tokenizer itself begins texts with it; else the continuation is scored
        from its second token.

        Raises:
            SwarmError: memory is short of even one row.
        """
        if not pairs:
            return []
        started = time.perf_counter()
        bos = text.begins_with(self._loaded.tokenizer)
        whole = [(prefix or bos or after[:1], after if prefix or bos else after[1:]) for prefix, after in pairs]
        tokens = max(len(prefix) for prefix, _ in whole) + max(len(after) for _, after in whole)
        rows = memory.scoring_rows(self._shape, tokens, self._free())
        while True:
            sums = self._sum_logprobs(whole, min(rows, len(whole)))
            if sums is not None:
                break
            if rows == 1:
                raise SwarmError(f"not enough memory to score a text of {tokens} tokens; use a smaller model")
            rows = min(rows, len(whole)) // 2 or 1
            memory.release(self._loaded.device.place)
        self.counters.scored_tokens += sum(len(after) for _, after in whole)
        self.counters.scoring_seconds += time.perf_counter() - started
        return sums

    def update(self, groups: Sequence[TrainingGroup], steps: int = 1) -> UpdateReport:
        """GRPO on own and fetched groups, in up to so many steps of the optimiser, each on its part of the groups; see
        `UpdateReport.skipped` for the cases without a step."""
        self._sampler.release()
        report = self._updater.update(groups, steps)
        self._weights_changed()
        self.counters.trained_tokens += report.tokens
        self.counters.update_seconds += report.seconds
        return report

    @property
    def origin(self) -> str | None:
        """SHA-256 (hex) of what this learner started from: those with the same one can merge their deltas. None where
        its weights are too many to be sent."""
        if self._origin is None:
            return None
        started = f"{self.tokenizer_fingerprint} {self._loaded.base_fingerprint} {self._origin.fingerprint}"
        return sha256(started.encode()).hexdigest()

    def delta(self) -> Delta:
        """What training has changed so far. Only for a learner that has an `origin`."""
        assert self._origin is not None
        return self._origin.delta()

    def move_to(self, delta: Delta) -> None:
        """Set the trainable weights to start + `delta`; the optimiser keeps its state."""
        assert self._origin is not None
        self._origin.move_to(delta)
        self._weights_changed()

    @property
    def max_weights_bytes(self) -> int:
        """No blob of `weights` for this model is longer."""
        return wire.max_blob_bytes(self._loaded.trainable)

    @property
    def replicable(self) -> bool:
        """Whether others that have these weights can compute again what `generate` draws."""
        return self._sampler.replicable

    @property
    def can_publish(self) -> bool:
        """Whether the trainable weights, exactly as they are, fit into a blob."""
        return self.max_weights_bytes <= wire.MAX_BLOB_BYTES

    def weights(self) -> bytes:
        """The trainable weights as they are: whoever has the same starting model has this one with them."""
        return wire.encode(self._loaded.trainable)

    @contextmanager
    def with_weights(self, blob: bytes) -> Iterator[None]:
        """Have the `weights` of another learner while the block runs, then the own ones again.

        Raises:
            WeightsRefused: the blob holds no weights of this model; the block does not run.
        """
        others = wire.decode(blob, self._loaded.trainable)
        own, fingerprint = self._loaded.copy_weights(), self._fingerprint
        try:
            self._loaded.set_weights(others)
            self._weights_changed()
            yield
        finally:
            self._loaded.set_weights(own)
            self._weights_changed()
            self._fingerprint = fingerprint

    @property
    def learning_rate(self) -> float:
        return self._updater.learning_rate

    def set_learning_rate(self, learning_rate: float) -> None:
        self._updater.set_learning_rate(learning_rate)

    def plan(self, prompt_tokens: int, new_tokens: int, samples: int) -> Plan:
        """Choose how the update fits into memory, by the largest group that will come; see `Plan`."""
        return self._updater.plan(prompt_tokens, new_tokens, samples)

    def joules(self) -> float | None:
        """Energy used since the model was loaded; None where the machine does not tell."""
        return self._energy.joules()

    def peak_memory(self) -> int:
        """Bytes, at most at once so far: of tensors on a GPU, else of this process."""
        return memory.peak_bytes(self._loaded.device.place)

    def save(self, directory: Path) -> None:
        """`snapshot` and write it: atomically; what was saved there before goes.

        Raises:
            SwarmError: the directory cannot be written.
        """
        self.snapshot().write(directory)

    def snapshot(self) -> checkpoint.Snapshot:
        """A copy of weights (with LoRA: the adapter), optimiser and counters, which another thread may write."""
        state = {
            "model": self.name,
            "base": self._loaded.base_fingerprint,
            "tokenizer": self.tokenizer_fingerprint,
            "updates": self._updater.updates,
            "micro_batch": self._updater.micro_batch,
        }
        return checkpoint.Snapshot.of(self._loaded.trainable, self._updater.optimizer, state)

    def restore(self, directory: Path) -> None:
        """Continue from `save`: the next losses are the ones that would have come.

        Raises:
            SwarmError: there is no checkpoint, it is damaged, or it belongs to another model; nothing has changed.
        """
        saved = checkpoint.read(directory)
        base, tokenizer = saved.state.get("base"), saved.state.get("tokenizer")
        if (base, tokenizer) != (self._loaded.base_fingerprint, self.tokenizer_fingerprint):
            raise SwarmError(
                f"the checkpoint in {directory} continues another model ({saved.state.get('model')}) than {self.name}; "
                "remove it to start afresh"
            )
        try:
            self.put_back(saved)
        except SwarmError as error:
            raise SwarmError(
                f"the checkpoint in {directory} cannot be used: {error}; remove it to start afresh"
            ) from error
        self._updater.micro_batch = int(saved.state["micro_batch"])

    def put_back(self, snapshot: checkpoint.Snapshot) -> None:
        """Be as this learner, or one of the same model, was when the snapshot was taken; the learning rate stays, and
        so does the micro-batch that was found to fit.

        Raises:
            SwarmError: it is of another LoRA rank or optimiser; nothing has changed.
        """
        snapshot.put_back(self._loaded.trainable, self._updater.optimizer)
        self._updater.updates = int(snapshot.state["updates"])
        self._weights_changed()

    def _weights_changed(self) -> None:
        self._fingerprint = None
        self._sampler.weights_changed()

    def _draw(
        self, prompts: Sequence[Tokens], samples: int, max_new_tokens: int, temperature: float | None, seed: int
    ) -> list[list[Drawn]]:
        if not prompts:
            return []
        started = time.perf_counter()
        tokens = max(len(prompt) for prompt in prompts) + max_new_tokens
        try:
            drawn = self._sampler.draw(
                prompts,
                samples=samples,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed,
                rows=memory.sampling_rows(self._shape, tokens, self._free()),
            )
        except MemoryError as error:
            raise SwarmError(f"not enough memory to sample: {error}; use a smaller model or shorter prompts") from error
        self.counters.generated_tokens += sum(len(one.tokens) for of_prompt in drawn for one in of_prompt)
        self.counters.generation_seconds += time.perf_counter() - started
        return drawn

    def _sum_logprobs(self, pairs: Sequence[tuple[Tokens, Tokens]], rows: int) -> list[float] | None:
        """None when memory ran out."""
        try:
            return sum_logprobs(self._loaded.parts, self._loaded.device, pairs, self._loaded.pad, rows)
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            return None

    def _free(self) -> int:
        return memory.free_bytes(self._loaded.device.place)
