"""GRPO updates on groups of completions, through TRL's GRPOTrainer.

TRL computes the loss; this module decides what goes in: the token ids and log-probabilities of the sampler, own and
fetched alike, in micro-batches whose gradients add up to that of the whole batch, in as little memory as there is.
GRPO: Shao et al. 2024 (arXiv 2402.03300); dapo: Yu et al. 2025 (2503.14476); dr_grpo: Liu et al. 2025 (2503.20783);
gspo: Zheng et al. 2025 (2507.18071).

The trainer is built once and driven by `training_step`. That uses private methods of TRL, so TRL is pinned exactly and
`tests/training/test_logprobs.py` compares log-probabilities with TRL's own.
"""

import contextlib
import copy
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from swarm.recipe.schema import Grpo
from swarm.training import memory
from swarm.training.head import chunk_tokens
from swarm.training.layout import Tokens
from swarm.training.model import Loaded
from swarm.training.optimizer import make_optimizer
from swarm.training.parts import Parts
from swarm.training.quiet import quiet
from swarm.training.scorer import completion_logprobs

RATIO_CAP = 10.0
"""Probability ratio above which a token is ignored even where clipping would not bound it, that is where the advantage
is negative (dual clip: Ye et al. 2020, arXiv 1912.09729): one odd fetched row must not own the whole gradient."""
MIN_ROWS = 4
"""Rows per pass below which keeping every layer's activations is not worth it."""
LOG_RATIO_LIMIT = 30.0
"""Behaviour log-probabilities are raised to at least minus this, so that a ratio stays finite in fp32."""


@dataclass(frozen=True)
class TrainingGroup:
    """Completions of one prompt with their advantages. Plain data: it may come from another peer."""

    prompt: Tokens
    completions: tuple[tuple[Tokens, tuple[float, ...]], ...]
    """(token ids, behaviour log-probabilities in nats at `temperature`), the end token included where it was drawn."""
    advantages: tuple[float, ...]
    own: bool
    """Sampled here, by the present weights."""
    temperature: float
    rescored: bool = False
    """Sampled by a model of another family: the present weights say how likely its tokens were, whatever stands in
    `completions`, so that the ratio begins at 1."""

    def flaw(self, vocabulary: int) -> str | None:
        """Why this group cannot be trained on, in a few words; None if it can."""
        if not self.prompt:
            return "an empty prompt"
        if len(self.advantages) != len(self.completions):
            return "advantages and completions differ in number"
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            return "a temperature that is not positive"
        if not all(map(math.isfinite, self.advantages)):
            return "an advantage that is not a number"
        for tokens, logprobs in self.completions:
            if not tokens or len(tokens) != len(logprobs):
                return "tokens and log-probabilities that differ in number"
            if not all(math.isfinite(value) and value <= 1e-3 for value in logprobs):
                return "a log-probability that is not one"
        ids = [token for tokens in (self.prompt, *(tokens for tokens, _ in self.completions)) for token in tokens]
        if not all(0 <= token < vocabulary for token in ids):
            return "a token outside the vocabulary"
        return None


@dataclass(frozen=True)
class UpdateReport:
    loss: float
    grad_norm: float
    """Before clipping to `max_grad_norm`."""
    groups: int
    """Groups with at least one trained row."""
    rows: int
    tokens: int
    """Completion tokens trained on."""
    clipped_fraction: float
    """Share of the trained tokens whose ratio was clipped."""
    mean_ratio_drift: float
    """Mean of |ratio - 1| over the tokens of own rows (of all rows if none is own): how far sampling and update
    arithmetic are apart, since own rows are sampled by the weights that are updated."""
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
class Row:
    prompt: Tokens
    completion: Tokens
    logprobs: tuple[float, ...]
    advantage: float
    temperature: float
    own: bool
    rescored: bool
    group: int


class Updater:
    """AdamW at a constant rate over a model's trainable weights, one GRPO step at a time."""

    def __init__(self, loaded: Loaded, settings: Grpo, *, seed: int) -> None:
        self._loaded = loaded
        self._settings = settings
        self._seed = seed
        self._shape = memory.Shape.of(loaded.model.config)
        self.micro_batch = settings.micro_batch
        """Rows per pass: the recipe's, halved whenever memory ran out."""
        self.checkpointing = False
        self.updates = 0
        """Calls of `update` that made a step."""
        # LoRA's starting model is the one without its adapter; without LoRA it has to be kept.
        keep_start = settings.beta > 0 and not hasattr(loaded.model, "disable_adapter")
        self._start = copy.deepcopy(loaded.model).requires_grad_(False) if keep_start else None
        self._start_parts = Parts.of(self._start, loaded.device.autocast_dtype) if keep_start else loaded.parts
        self.optimizer = make_optimizer(loaded.trainable, settings, seed)
        self._trainer = _build_trainer(loaded, settings, self.optimizer, seed)

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def update(self, groups: Sequence[TrainingGroup]) -> UpdateReport:
        """One step on all rows that have an advantage; denominators count those rows only.

        Rows without advantage are dropped before the forward pass. The step is left out, with the weights untouched,
        where nothing is left, a loss or gradient is not finite, or one row alone does not fit into memory.
        """
        started = time.perf_counter()
        flaws = [group.flaw(self._shape.vocabulary) for group in groups]
        refused = [flaw for flaw in flaws if flaw is not None]
        rows = _rows([group for group, flaw in zip(groups, flaws, strict=True) if flaw is None])

        def report(skipped: str | None, loss: float = 0.0, grad_norm: float = 0.0) -> UpdateReport:
            self.optimizer.zero_grad(set_to_none=True)
            trained = rows if skipped is None else []
            clipped, drift = self._trainer.take_ratios() if skipped is None else (0.0, 0.0)
            return UpdateReport(
                loss=loss,
                grad_norm=grad_norm,
                groups=len({row.group for row in trained}),
                rows=len(trained),
                tokens=sum(len(row.completion) for row in trained),
                clipped_fraction=clipped,
                mean_ratio_drift=drift,
                seconds=time.perf_counter() - started,
                skipped=skipped,
                refused_groups=len(refused),
            )

        if not rows:
            why = f"; {len(refused)} groups refused, the first for {refused[0]}" if refused else ""
            return report(f"nothing to learn from: no completion did better or worse than its group{why}")
        loss = self._gradient(rows)
        if loss is None:
            longest = max(len(row.prompt) + len(row.completion) for row in rows)
            return report(f"not enough memory for one row of {longest} tokens; shorten max_new_tokens or use LoRA")
        grad_norm = float(
            torch.nn.utils.clip_grad_norm_(list(self._loaded.trainable.values()), self._settings.max_grad_norm)
        )
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return report(f"the loss ({loss:g}) or its gradient ({grad_norm:g}) is not a finite number")
        self.optimizer.step()
        self.updates += 1
        return report(None, loss, grad_norm)

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
            return _logprobs(self._start_parts, self._loaded, chunk)

    @contextlib.contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Dropout follows from the seed and the number of updates, so that a restored learner repeats it."""
        device = self._loaded.device.place
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed((self._seed + 1_000_003 * self.updates) % 2**63)
            yield


class _Trainer(GRPOTrainer):
    """TRL's loss on batches that are complete when they come in."""

    loaded: Loaded
    token_mask: float | None
    current_gradient_accumulation_steps: Any

    def _move_model_to_device(self, model: Any, device: torch.device) -> None:
        """It stays where it was loaded to, which may be another GPU than the first, the one that the trainer takes."""

    def _prepare_inputs(self, generation_batch: dict[str, Any]) -> dict[str, Any]:
        return generation_batch

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._inputs = inputs
        loss = super()._compute_loss(model, inputs)
        tokens = int(inputs["completion_mask"].sum())
        self._clipped += self._metrics["train"]["clip_ratio/region_mean"][-1] * tokens
        self._tokens += tokens
        self._metrics["train"].clear()
        return loss

    def _get_per_token_logps_and_entropies(self, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        """The sampler's arithmetic in place of TRL's. Entropies, which no loss of ours uses, are zeros."""
        inputs = self._inputs
        logprobs = _logprobs(self.loaded.parts, self.loaded, inputs["rows"])
        now = logprobs.detach()
        old = torch.where(inputs["rescored"][:, None], now, inputs["old_per_token_logps"])
        inputs["old_per_token_logps"] = old
        if self.token_mask is not None:
            # TRL takes advantages per token, and reads them after this.
            inputs["advantages"] = inputs["advantages"] * ((now.exp() - old.exp()).abs() <= self.token_mask)
        drift = (now - old).exp().sub(1).abs()
        mask = inputs["completion_mask"].bool()
        own = mask & inputs["own"][:, None]
        self._drift_all += drift[mask].sum().item()
        self._drift_own += drift[own].sum().item()
        self._own_tokens += int(own.sum())
        return logprobs, torch.zeros_like(now), None

    def forget_ratios(self) -> None:
        self._clipped = 0.0
        self._drift_all = 0.0
        self._drift_own = 0.0
        self._tokens = self._own_tokens = 0

    def take_ratios(self) -> tuple[float, float]:
        """(clipped fraction, mean ratio drift) since `forget_ratios`."""
        drift = self._drift_own / self._own_tokens if self._own_tokens else self._drift_all / self._tokens
        return self._clipped / self._tokens, drift


def _rows(groups: Sequence[TrainingGroup]) -> list[Row]:
    """Rows with an advantage, the groups with the longest first: completions of one prompt are computed together, alike
    lengths share a micro-batch, and memory runs out early or never."""
    rows = [
        Row(group.prompt, tokens, logprobs, advantage, group.temperature, group.own, group.rescored, index)
        for index, group in enumerate(groups)
        for (tokens, logprobs), advantage in zip(group.completions, group.advantages, strict=True)
        if advantage != 0
    ]
    longest: dict[int, int] = {}
    for row in rows:
        longest[row.group] = max(longest.get(row.group, 0), len(row.prompt) + len(row.completion))
    return sorted(rows, key=lambda row: (longest[row.group], row.group, len(row.completion)), reverse=True)


def _logprobs(parts: Parts, loaded: Loaded, rows: Sequence[Row]) -> torch.Tensor:
    """Of the rows' completion tokens, at their temperatures; shape (rows, longest completion)."""
    return completion_logprobs(
        parts,
        loaded.device,
        [row.prompt for row in rows],
        [row.completion for row in rows],
        loaded.pad,
        torch.tensor([row.temperature for row in rows], device=loaded.device.place),
    )


def _build_trainer(loaded: Loaded, settings: Grpo, optimizer: torch.optim.Optimizer, seed: int) -> _Trainer:
    with quiet(), tempfile.TemporaryDirectory() as unused, torch.random.fork_rng(devices=[]):
        arguments = GRPOConfig(
            output_dir=unused,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=loaded.device.place.type == "cpu",
            seed=seed % 2**32,
            # Autocast and micro-batches are ours; the batch sizes only have to satisfy TRL's checks.
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=2,
            num_generations=2,
            gradient_accumulation_steps=1,
            steps_per_generation=1,
            loss_type="grpo" if settings.loss == "gspo" else settings.loss,
            importance_sampling_level="sequence" if settings.loss == "gspo" else "token",
            off_policy_mask_threshold=settings.sequence_mask,
            epsilon=settings.clip_low,
            epsilon_high=settings.clip_high,
            delta=max(RATIO_CAP, 1 + settings.clip_high),
            beta=0.0,
        )
        trainer = _Trainer(
            model=loaded.model,
            reward_funcs=_no_reward,
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": ""}]),
            processing_class=loaded.tokenizer,
            optimizers=(optimizer, None),
        )
    trainer.loaded = loaded
    trainer.token_mask = settings.token_mask
    # Set afterwards: given to the constructor, TRL would load or copy a reference model of its own.
    trainer.beta = settings.beta
    trainer.forget_ratios()
    return trainer


def _no_reward(**_: Any) -> list[float | None]:
    raise AssertionError("rewards are computed before the trainer is called")
