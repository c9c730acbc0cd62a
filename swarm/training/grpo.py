"""GRPO updates on groups of completions: the optimiser's steps, and how they fit into memory.

`swarm.training.loss` computes the loss; this module decides what goes in: the token ids and log-probabilities of the
sampler, own and fetched alike, in micro-batches whose gradients add up to that of a step's whole batch, in as little
memory as there is.
"""

import contextlib
import copy
import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from swarm.recipe.schema import Grpo
from swarm.training import memory
from swarm.training.groups import Row, TrainingGroup, rows_of
from swarm.training.head import chunk_tokens
from swarm.training.loss import build_trainer, row_logprobs
from swarm.training.model import Loaded
from swarm.training.optimizer import make_optimizer
from swarm.training.parts import Parts
from swarm.training.quiet import quiet

logger = logging.getLogger(__name__)

MIN_ROWS = 4
"""Rows per pass below which keeping every layer's activations is not worth it."""
LOG_RATIO_LIMIT = 30.0
"""Behaviour log-probabilities are raised to at least minus this, so that a ratio stays finite in fp32."""


@dataclass(frozen=True)
class UpdateReport:
    """What an update came to; loss, norm and fractions are means over its steps, weighted with their tokens."""

    loss: float
    grad_norm: float
    """Before clipping to `max_grad_norm`."""
    steps: int
    """Steps of the optimiser."""
    groups: int
    """Groups with at least one trained row."""
    rows: int
    tokens: int
    """Completion tokens trained on."""
    clipped_fraction: float
    """Share of the trained tokens whose ratio was clipped."""
    mean_ratio_drift: float
    """Mean of |ratio - 1| over the tokens of own rows (of all rows if none is own) in the first step: how far sampling
    and update arithmetic are apart, since own rows are sampled by the weights that this step finds."""
    seconds: float
    skipped: str | None
    """Why no step was made, in plain words; None if one was."""
    refused_groups: int = 0
    """Groups left out because `TrainingGroup.flaw` found something."""


@dataclass(frozen=True)
class Plan:
    """How an update fits into memory."""

    micro_batch: int
    """Rows per forward and backward pass, at most."""
    checkpointing: bool
    """Layers are computed again in the backward pass instead of being kept."""
    chunk_tokens: int
    """Tokens whose logits exist at once."""
    free_bytes: int
    """When it was made."""
    why: str


@dataclass(frozen=True)
class _Step:
    """One step of the optimiser; its numbers mean what they mean in `UpdateReport`."""

    groups: int
    rows: int
    tokens: int
    loss: float = 0.0
    grad_norm: float = 0.0
    clipped_fraction: float = 0.0
    mean_ratio_drift: float = 0.0
    failed: str | None = None
    """Why the weights are as before."""


class Updater:
    """AdamW at a constant rate over a model's trainable weights."""

    def __init__(self, loaded: Loaded, settings: Grpo, *, seed: int) -> None:
        self._loaded = loaded
        self._settings = settings
        self._seed = seed
        self._shape = memory.Shape.of(loaded.model.config)
        self.micro_batch = settings.micro_batch
        """Rows per pass: the recipe's, halved whenever memory ran out."""
        self.checkpointing = False
        self.updates = 0
        """Steps made."""
        # LoRA's starting model is the one without its adapter; without LoRA it has to be kept.
        keep_start = settings.beta > 0 and not hasattr(loaded.model, "disable_adapter")
        self._start = copy.deepcopy(loaded.model).requires_grad_(False) if keep_start else None
        self._start_parts = Parts.of(self._start, loaded.device.autocast_dtype) if keep_start else loaded.parts
        self.optimizer = make_optimizer(loaded.trainable, settings, seed)
        self._trainer = build_trainer(loaded, settings, self.optimizer, seed)

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def update(self, groups: Sequence[TrainingGroup], steps: int = 1) -> UpdateReport:
        """Up to so many steps, to which the groups are dealt in turn: never more steps than groups.

        Rows without advantage are dropped before the forward pass; a step's denominators count its other rows only. A
        step is left out, with the weights untouched, where nothing is left, a loss or gradient is not finite, or one
        row alone does not fit into memory.
        """
        started = time.perf_counter()
        flaws = [group.flaw(self._shape.vocabulary) for group in groups]
        refused = [flaw for flaw in flaws if flaw is not None]
        rows = rows_of([group for group, flaw in zip(groups, flaws, strict=True) if flaw is None])
        tried = [self._step(part) for part in _dealt(rows, steps)]
        self.optimizer.zero_grad(set_to_none=True)
        made = [step for step in tried if step.failed is None]
        why = next((step.failed for step in tried if step.failed is not None), None)
        if not tried:
            why = "nothing to learn from: no completion did better or worse than its group"
            why += f"; {len(refused)} groups refused, the first for {refused[0]}" if refused else ""
        elif made and why:
            logger.warning("%d of %d steps were left out: %s", len(tried) - len(made), len(tried), why)
        tokens = sum(step.tokens for step in made)

        def mean(values: Iterable[float]) -> float:
            return sum(value * step.tokens for value, step in zip(values, made, strict=True)) / tokens if made else 0.0

        return UpdateReport(
            loss=mean(step.loss for step in made),
            grad_norm=mean(step.grad_norm for step in made),
            steps=len(made),
            groups=sum(step.groups for step in made),
            rows=sum(step.rows for step in made),
            tokens=tokens,
            clipped_fraction=mean(step.clipped_fraction for step in made),
            mean_ratio_drift=made[0].mean_ratio_drift if made else 0.0,
            seconds=time.perf_counter() - started,
            skipped=None if made else why,
            refused_groups=len(refused),
        )

    def _step(self, rows: list[Row]) -> _Step:
        groups, tokens = len({row.group for row in rows}), sum(len(row.completion) for row in rows)
        step = _Step(groups=groups, rows=len(rows), tokens=tokens)
        loss = self._gradient(rows)
        if loss is None:
            longest = max(len(row.prompt) + len(row.completion) for row in rows)
            failed = f"not enough memory for one row of {longest} tokens; shorten max_new_tokens or use LoRA"
            return replace(step, failed=failed)
        grad_norm = float(
            torch.nn.utils.clip_grad_norm_(list(self._loaded.trainable.values()), self._settings.max_grad_norm)
        )
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            failed = f"the loss ({loss:g}) or its gradient ({grad_norm:g}) is not a finite number"
            return replace(step, failed=failed)
        self.optimizer.step()
        self.updates += 1
        clipped, drift = self._trainer.take_ratios()
        return replace(step, loss=loss, grad_norm=grad_norm, clipped_fraction=clipped, mean_ratio_drift=drift)

    def plan(self, prompt_tokens: int, new_tokens: int, samples: int) -> Plan:
        """Choose micro-batch and checkpointing for groups of `samples` completions of `new_tokens` each.

        On a GPU the choice is tried, forward and backward, and halved until it fits. On a CPU the estimate decides:
        there a process that takes too much is killed rather than told.
        """
        place = self._loaded.device.place
        free = memory.free_bytes(place)
        tokens = prompt_tokens + new_tokens
        plain = memory.training_rows(self._shape, tokens, free, checkpointing=False)
        wanted = min(self._settings.micro_batch, samples)
        self._set_checkpointing(plain < min(wanted, MIN_ROWS))
        fitting = memory.training_rows(self._shape, tokens, free, checkpointing=self.checkpointing)
        self.micro_batch = min(self._settings.micro_batch, fitting)
        why = f"of {free / 2**30:.1f} GiB free, an estimated {plain} rows of {tokens} tokens fit, {fitting} as chosen"
        if place.type == "cuda":
            before = self.micro_batch, self.checkpointing
            row = Row((0,) * prompt_tokens, (0,) * new_tokens, (-1.0,) * new_tokens, 1.0, 1.0, True, False, 0)
            if self._gradient([row] * min(self.micro_batch, samples)) is None:
                why += "; tried, and not even one row fits"
            elif (self.micro_batch, self.checkpointing) != before:
                why += f"; tried, and {before[0]} rows did not fit"
            else:
                why += "; tried, and they do"
            self.optimizer.zero_grad(set_to_none=True)
            memory.release(place)
        return Plan(self.micro_batch, self.checkpointing, chunk_tokens(self._loaded.parts, place), free, why)

    def _set_checkpointing(self, on: bool) -> None:
        self.checkpointing = on
        model = self._loaded.model
        with quiet():
            if on:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            else:
                model.gradient_checkpointing_disable()

    def _gradient(self, rows: list[Row]) -> float | None:
        """Leaves the gradient of all rows in the weights; the loss, or None where not even one row fits."""
        tokens = max(len(row.prompt) for row in rows) + max(len(row.completion) for row in rows)
        free = memory.free_bytes(self._loaded.device.place)
        fitting = memory.training_rows(self._shape, tokens, free, checkpointing=self.checkpointing)
        size = min(self.micro_batch, len(rows), fitting)
        while True:
            loss = self._attempt(rows, size)
            if loss is not None:
                return loss
            memory.release(self._loaded.device.place)
            if size > 1:
                size = self.micro_batch = size // 2
            elif not self.checkpointing:
                self._set_checkpointing(True)
            else:
                return None

    def _attempt(self, rows: list[Row], size: int) -> float | None:
        """`_accumulate`, or None when memory ran out; a function of its own so that a failed attempt is let go."""
        try:
            return self._accumulate(rows, size)
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            return None

    def _accumulate(self, rows: list[Row], size: int) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        self._trainer.forget_ratios()
        total_tokens = sum(len(row.completion) for row in rows)
        # TRL divides by what it takes for a constant; the longest completion keeps gradients of a size like dapo's.
        self._trainer.max_completion_length = max(len(row.completion) for row in rows)
        loss = 0.0
        with self._own_random_numbers():
            for start in range(0, len(rows), size):
                chunk = rows[start : start + size]
                batch = self._batch(chunk, total_tokens)
                self._trainer.current_gradient_accumulation_steps = self._parts(chunk, len(rows), total_tokens)
                loss += float(self._trainer.training_step(self._loaded.model, batch, None))
        self._loaded.model.eval()
        return loss

    def _parts(self, chunk: list[Row], rows: int, tokens: int) -> float:
        """What TRL takes for the number of accumulation steps, by which it divides a micro-batch's mean.

        The inverse of the chunk's share of the batch, in the unit of the loss's mean, makes the sum exact for chunks
        of any size; dapo divides by `num_items_in_batch` instead.
        """
        if self._settings.loss == "bnpo":
            return tokens / sum(len(row.completion) for row in chunk)
        if self._settings.loss == "dapo":
            return 1.0
        return rows / len(chunk)

    def _batch(self, chunk: list[Row], total_tokens: int) -> dict[str, Any]:
        device = self._loaded.device.place
        lengths = torch.tensor([len(row.completion) for row in chunk])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        behaviour = torch.zeros(mask.shape)
        behaviour[mask] = torch.tensor([value for row in chunk for value in row.logprobs]).clamp(min=-LOG_RATIO_LIMIT)
        completion_ids = torch.zeros(mask.shape, dtype=torch.long, device=device)
        batch = {
            # TRL puts prompts and completions side by side; the log-probabilities below are computed from `chunk`.
            "prompt_ids": completion_ids[:, :0],
            "prompt_mask": completion_ids[:, :0],
            "completion_ids": completion_ids,
            "completion_mask": mask.long().to(device),
            "old_per_token_logps": behaviour.to(device),
            "advantages": torch.tensor([row.advantage for row in chunk], device=device)[:, None].repeat(
                1, mask.shape[1]
            ),
            "num_items_in_batch": torch.tensor(float(total_tokens), device=device),
            "own": torch.tensor([row.own for row in chunk], device=device),
            "rescored": torch.tensor([row.rescored for row in chunk], device=device),
            "rows": chunk,
        }
        if self._settings.beta > 0:
            batch["ref_per_token_logps"] = self._starting_logprobs(chunk)
        return batch

    @torch.no_grad()
    def _starting_logprobs(self, chunk: list[Row]) -> torch.Tensor:
        without_adapter = contextlib.nullcontext() if self._start is not None else self._loaded.model.disable_adapter()
        with without_adapter:
            return row_logprobs(self._start_parts, self._loaded, chunk)

    @contextlib.contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Dropout follows from the seed and the number of steps, so that a restored learner repeats it."""
        device = self._loaded.device.place
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed((self._seed + 1_000_003 * self.updates) % 2**63)
            yield


def _dealt(rows: Sequence[Row], steps: int) -> list[list[Row]]:
    """The rows of each step, those of one group together."""
    groups = sorted({row.group for row in rows})
    steps = min(steps, len(groups))
    turn = {group: place % steps for place, group in enumerate(groups)}
    return [[row for row in rows if turn[row.group] == step] for step in range(steps)]
