"""The loss of an update: TRL's, on batches of rows that are complete when they come in.

GRPO: Shao et al. 2024 (arXiv 2402.03300); dapo: Yu et al. 2025 (2503.14476); dr_grpo: Liu et al. 2025 (2503.20783);
gspo: Zheng et al. 2025 (2507.18071).

The trainer is built once and driven by `training_step`. That uses private methods of TRL, so TRL is pinned exactly and
`tests/training/test_logprobs.py` compares log-probabilities with TRL's own.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from swarm.recipe.schema import Grpo
from swarm.training.groups import Row
from swarm.training.model import Loaded
from swarm.training.parts import Parts
from swarm.training.quiet import quiet
from swarm.training.scorer import completion_logprobs

RATIO_CAP = 10.0
"""Probability ratio above which a token is ignored even where clipping would not bound it, that is where the advantage
is negative (dual clip: Ye et al. 2020, arXiv 1912.09729): one odd row must not own the whole gradient."""
FETCHED_RATIO_CAP = 3.0
"""The same for fetched rows, as in that paper: the ratio is what their author claims, and by claiming low
log-probabilities a peer could have more say in the gradient than an honest one (bench/results/collective.md)."""


class Trainer(GRPOTrainer):
    """TRL's loss on batches that are complete when they come in."""

    loaded: Loaded
    token_mask: float | None
    fetched_ratio_cap = FETCHED_RATIO_CAP
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
        logprobs = row_logprobs(self.loaded.parts, self.loaded, inputs["rows"])
        now = logprobs.detach()
        old = torch.where(inputs["rescored"][:, None], now, inputs["old_per_token_logps"])
        inputs["old_per_token_logps"] = old
        ratio = (now - old).exp()
        teaches = inputs["own"][:, None] | (ratio <= self.fetched_ratio_cap)
        if self.token_mask is not None:
            teaches &= (now.exp() - old.exp()).abs() <= self.token_mask
        inputs["advantages"] = inputs["advantages"] * teaches  # TRL takes them per token, and reads them after this
        drift = ratio.sub(1).abs()
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


def row_logprobs(parts: Parts, loaded: Loaded, rows: Sequence[Row]) -> torch.Tensor:
    """Of the rows' completion tokens, at their temperatures; shape (rows, longest completion)."""
    return completion_logprobs(
        parts,
        loaded.device,
        [row.prompt for row in rows],
        [row.completion for row in rows],
        loaded.pad,
        torch.tensor([row.temperature for row in rows], device=loaded.device.place),
    )


def build_trainer(loaded: Loaded, settings: Grpo, optimizer: torch.optim.Optimizer, seed: int) -> Trainer:
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
        trainer = Trainer(
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
