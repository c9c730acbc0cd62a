"""Log-probabilities of given tokens.

One forward pass serves the update, the judge and the tests: rows are prompt + completion, prompts padded on the left
and completions on the right, and logits are computed for the completion's positions only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from swarm.training.device import Device

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Rows of one pass. Shapes: prompts (rows, P), completions (rows, C); masks are 1 on real tokens."""

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor

    @property
    def input_ids(self) -> torch.Tensor:
        return torch.cat([self.prompt_ids, self.completion_ids], dim=1)

    @property
    def attention_mask(self) -> torch.Tensor:
        return torch.cat([self.prompt_mask, self.completion_mask], dim=1)


def pack(prompts: Sequence[Tokens], completions: Sequence[Tokens], pad: int, device: torch.device) -> Batch:
    """Rows as tensors. Masks come from lengths, never from token ids: in many models the pad token is the end token."""
    prompt_ids, prompt_mask = pad_left(prompts, pad, device)
    width = max(len(completion) for completion in completions)
    completion_ids = [list(completion) + [pad] * (width - len(completion)) for completion in completions]
    completion_mask = [[1] * len(completion) + [0] * (width - len(completion)) for completion in completions]
    return Batch(
        prompt_ids,
        prompt_mask,
        torch.tensor(completion_ids, device=device),
        torch.tensor(completion_mask, device=device),
    )


def pad_left(prompts: Sequence[Tokens], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of shape (rows, longest prompt)."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position of every token in its own row, not in the padded one; shape of `mask`."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def completion_logprobs(
    model: Any,
    device: Device,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    completion_tokens: int,
    temperatures: torch.Tensor | None = None,
) -> torch.Tensor:
    """Natural log-probability of each of the last `completion_tokens` tokens of every row; shape (rows, that), fp32.

    `temperatures`, shape (rows,), divides the logits (None: 1). The model's own head is used, so that families which
    scale or cap their logits stay right.
    """
    with device.autocast():
        logits = model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=positions(attention_mask),
            logits_to_keep=completion_tokens + 1,
            use_cache=False,
        ).logits[:, :-1]
    logits = logits.float()
    if temperatures is not None:
        logits = logits / temperatures[:, None, None]
    chosen = input_ids[:, -completion_tokens:, None]
    return torch.log_softmax(logits, dim=-1).gather(2, chosen).squeeze(2)


@torch.no_grad()
def sum_logprobs(
    model: Any, device: Device, pairs: Sequence[tuple[Tokens, Tokens]], pad: int, rows: int
) -> list[float]:
    """Sum of log p(continuation | prefix), in nats, per pair; `rows` pairs per pass, alike lengths together.

    Prefixes must not be empty; an empty continuation has log-probability 0.
    """
    sums = [0.0] * len(pairs)
    order = [index for index in _by_length(pairs) if pairs[index][1]]
    for start in range(0, len(order), rows):
        chunk = order[start : start + rows]
        batch = pack([pairs[index][0] for index in chunk], [pairs[index][1] for index in chunk], pad, device.place)
        logprobs = completion_logprobs(
            model, device, batch.input_ids, batch.attention_mask, batch.completion_ids.shape[1]
        )
        for index, value in zip(chunk, (logprobs * batch.completion_mask).sum(dim=1).tolist(), strict=True):
            sums[index] = value
    return sums


def _by_length(pairs: Sequence[tuple[Tokens, Tokens]]) -> list[int]:
    return sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]) + len(pairs[index][1]), reverse=True)
