"""AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), with its moments in fp32 or in one byte each.

The 8-bit form follows Dettmers et al. 2021 (arXiv 2110.02861): blocks of weights share a scale. It is written in plain
PyTorch, so that it runs on every device; bitsandbytes has it for CUDA only, and torchao compiles it on first use.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from swarm.recipe.schema import Grpo

BLOCK = 256
"""Weights that share a scale."""
SMALLEST = 4096
"""Weights below which a tensor keeps fp32 moments: biases and norms are few and matter."""


def make_optimizer(weights: Mapping[str, torch.nn.Parameter], settings: Grpo, seed: int) -> torch.optim.Optimizer:
    """AdamW at the recipe's constant rate. Its state is allocated at once, so that memory cannot run out in the middle
    of a step and leave half of it done."""
    if settings.optimizer == "adamw_8bit":
        return AdamW8bit(list(weights.values()), settings.learning_rate, settings.weight_decay, seed)
    optimizer = torch.optim.AdamW(list(weights.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    for weight in weights.values():
        optimizer.state[weight] = {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
    return optimizer


class AdamW8bit(torch.optim.Optimizer):
    """One tensor after the other, so that fp32 moments exist for one at a time.

    A bfloat16 weight is rounded up or down at random, in proportion: rounded to the nearest, steps below 1/256 of the
    weight, which most are, would all be lost.
    """

    def __init__(
        self,
        weights: list[torch.nn.Parameter],
        lr: float,
        weight_decay: float,
        seed: int,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps})
        self._seed = seed
        for weight in weights:
            self.state[weight] = {"step": torch.tensor(0.0), **_no_moments(weight)}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for number, weight in enumerate(group["params"]):
                if weight.grad is not None:
                    self._step(weight, number, group)

    def _step(self, weight: torch.nn.Parameter, number: int, group: dict[str, Any]) -> None:
        state = self.state[weight]
        state["step"] += 1
        steps = int(state["step"])
        first, second = group["betas"]
        gradient = weight.grad.float()  # type: ignore[union-attr]
        mean, square = _moments(state, weight)
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        update = square.div(1 - second**steps).sqrt_().add_(group["eps"])
        torch.div(mean, update, out=update).mul_(-group["lr"] / (1 - first**steps))
        moved = weight.float().mul_(1 - group["lr"] * group["weight_decay"]).add_(update)
        generator = torch.Generator(weight.device).manual_seed(
            (self._seed * 1_000_003 + steps * 10_007 + number) % 2**63
        )
        if weight.dtype == torch.bfloat16:
            weight.copy_(round_at_random(moved, generator))
        else:
            weight.copy_(moved)
        if "mean_codes" in state:
            _keep(state, mean, square, generator)


def round_at_random(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """fp32 to bfloat16: to one of the two neighbours, with the chances that make the mean right."""
    # The upper 16 bits of an fp32 number are a bfloat16 number: adding noise below them carries in proportion.
    bits = values.view(torch.int32)
    lower = torch.randint(0, 1 << 16, bits.shape, generator=generator, device=bits.device, dtype=torch.int32)
    return ((bits + lower) & -(1 << 16)).view(torch.float32).to(torch.bfloat16)


def _no_moments(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    if weight.numel() < SMALLEST:
        shape = weight.shape
        return {name: torch.zeros(shape, device=weight.device) for name in ("exp_avg", "exp_avg_sq")}
    blocks = -(-weight.numel() // BLOCK)
    return {
        "mean_codes": torch.zeros(blocks, BLOCK, dtype=torch.int8, device=weight.device),
        "mean_scales": torch.zeros(blocks, 1, device=weight.device),
        "square_codes": torch.zeros(blocks, BLOCK, dtype=torch.uint8, device=weight.device),
        "square_scales": torch.zeros(blocks, 1, device=weight.device),
    }


def _moments(state: dict[str, torch.Tensor], weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both moments in fp32 and in the shape of the weight: the kept tensors, or decoded copies of them."""
    if "mean_codes" not in state:
        return state["exp_avg"], state["exp_avg_sq"]
    mean = state["mean_codes"].float().div_(127)
    mean = mean.mul_(mean.abs()).mul_(state["mean_scales"])
    square = state["square_codes"].float().div_(255).pow_(4).mul_(state["square_scales"])
    return _as_weight(mean, weight), _as_weight(square, weight)


def _keep(state: dict[str, torch.Tensor], mean: torch.Tensor, square: torch.Tensor, generator: torch.Generator) -> None:
    """Codes are square roots of the mean's, fourth roots of the square's share of the block's largest: fine near 0."""
    blocks = _in_blocks(mean)
    scale = blocks.abs().amax(dim=1, keepdim=True)
    share = blocks / scale.clamp(min=1e-30)
    state["mean_codes"].copy_(share.abs().sqrt_().copysign_(share).mul_(127).round_())
    state["mean_scales"].copy_(scale)
    blocks = _in_blocks(square)
    scale = blocks.amax(dim=1, keepdim=True)
    codes = (blocks / scale.clamp(min=1e-30)).pow_(0.25).mul_(255)
    # At random, since it changes by 0.1% a step, which to the nearest would be lost; what is divided by stays above 0.
    up = torch.rand(codes.shape, generator=generator, device=codes.device)
    state["square_codes"].copy_(torch.where(codes > 0, codes.add(up).floor_().clamp_(1, 255), 0.0))
    state["square_scales"].copy_(scale)


def _in_blocks(values: torch.Tensor) -> torch.Tensor:
    flat = values.flatten()
    return torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)


def _as_weight(blocks: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return blocks.flatten()[: weight.numel()].view(weight.shape)
