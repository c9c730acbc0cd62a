"""Completions of prompts, with the log-probabilities under which they were drawn.

Every prompt is prefilled once, whatever the number of its samples; a finished row leaves the batch. What a row draws
follows from the seed and its own place in the request, not from the size of the batches it was computed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import shake_256
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from swarm.training import memory
from swarm.training.device import Device
from swarm.training.scorer import Tokens, pad_left, positions


@dataclass(frozen=True)
class Drawn:
    tokens: Tokens
    """As sampled, the end token included when finished."""
    logprobs: tuple[float, ...]
    """Natural log-probabilities at the sampling temperature, computed in fp32 from the logits."""
    finished: bool
    """Ended by itself, not by the limit."""


@torch.no_grad()
def draw(
    model: Any,
    device: Device,
    prompts: Sequence[Tokens],
    *,
    samples: int,
    max_new_tokens: int,
    temperature: float | None,
    seed: int,
    end_ids: frozenset[int],
    pad: int,
    rows: int,
) -> list[list[Drawn]]:
    """`samples` completions per prompt, in the order of the prompts; `rows` at most at once, fewer if memory runs out.

    A temperature of None takes the likeliest token. Prompts must not be empty.

    Raises:
        MemoryError: one row alone does not fit.
    """
    places = [(index, sample) for index in range(len(prompts)) for sample in range(samples)]
    uniforms = torch.from_numpy(np.stack([noise(seed, *place, max_new_tokens) for place in places]))
    uniforms = uniforms.reshape(len(prompts), samples, max_new_tokens)
    drawn: list[list[Drawn]] = [[] for _ in prompts]
    waiting = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    while waiting:
        together = min(samples - len(drawn[waiting[0]]), rows)
        chunk = waiting[: max(1, rows // samples)] if together == samples else waiting[:1]
        done = len(drawn[chunk[0]])
        numbers = uniforms[chunk, done : done + together].reshape(len(chunk) * together, max_new_tokens)
        rolled = _attempt(
            model, device, [prompts[i] for i in chunk], together, numbers.to(device.place), temperature, end_ids, pad
        )
        if rolled is None:
            if rows == 1:
                raise MemoryError(f"one prompt of {len(prompts[chunk[0]])} tokens does not fit into memory")
            rows = max(1, min(rows, len(chunk) * together) // 2)
            memory.release(device.place)
            continue
        for place, index in enumerate(chunk):
            drawn[index] += rolled[place * together : (place + 1) * together]
        waiting = [index for index in waiting if len(drawn[index]) < samples]
    return drawn


def noise(seed: int, prompt: int, sample: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1), fp32, one per position of one completion: SHAKE-256 of its place, 24 bits each.

    Whoever knows the seed can compute them again, for one completion alone.
    """
    stream = shake_256(f"{seed} {prompt} {sample}".encode()).digest(4 * count)
    return (np.frombuffer(stream, dtype="<u4") >> 8).astype(np.float32) / np.float32(2**24)


def _attempt(*arguments: Any) -> list[Drawn] | None:
    """`_roll`, or None when memory ran out; a function of its own so that a failed attempt's tensors are let go."""
    try:
        return _roll(*arguments)
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        return None


def _roll(
    model: Any,
    device: Device,
    prompts: Sequence[Tokens],
    samples: int,
    uniforms: torch.Tensor,
    temperature: float | None,
    end_ids: frozenset[int],
    pad: int,
) -> list[Drawn]:
    """The completions of one batch, sample by sample within prompt by prompt; uniforms: (rows, max_new_tokens)."""
    ids, mask = pad_left(prompts, pad, device.place)
    cache = DynamicCache(config=model.config)
    logits = _forward(model, device, ids, mask, positions(mask), cache)
    if samples > 1:
        cache.batch_repeat_interleave(samples)
        logits, mask = logits.repeat_interleave(samples, dim=0), mask.repeat_interleave(samples, dim=0)

    ends = torch.tensor(sorted(end_ids), device=device.place)
    rows, limit = uniforms.shape
    tokens = torch.full((rows, limit), pad, device=device.place)
    logprobs = torch.zeros(rows, limit, device=device.place)
    lengths = torch.full((rows,), limit, device=device.place)
    finished = torch.zeros(rows, dtype=torch.bool, device=device.place)
    live = torch.arange(rows, device=device.place)
    for step in range(limit):
        chosen, chosen_logprobs = _choose(logits, temperature, uniforms[live, step])
        tokens[live, step], logprobs[live, step] = chosen, chosen_logprobs
        ended = torch.isin(chosen, ends)
        finished[live[ended]] = True
        lengths[live[ended]] = step + 1
        if step + 1 == limit or bool(ended.all()):
            break
        if bool(ended.any()):
            staying = (~ended).nonzero().squeeze(1)
            live, chosen, mask = live[staying], chosen[staying], mask[staying]
            cache.batch_select_indices(staying)
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        logits = _forward(model, device, chosen[:, None], mask, positions(mask)[:, -1:], cache)

    return [
        Drawn(tuple(row[:length]), tuple(row_logprobs[:length]), ended_itself)
        for row, row_logprobs, length, ended_itself in zip(
            tokens.tolist(), logprobs.tolist(), lengths.tolist(), finished.tolist(), strict=True
        )
    ]


def _forward(
    model: Any,
    device: Device,
    ids: torch.Tensor,
    mask: torch.Tensor,
    position_ids: torch.Tensor,
    cache: DynamicCache,
) -> torch.Tensor:
    """Logits of the next token, shape (rows, vocabulary), fp32; extends the cache."""
    with device.autocast():
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return output.logits[:, -1].float()


def _choose(
    logits: torch.Tensor, temperature: float | None, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The chosen token and its log-probability per row; `uniforms`, in [0, 1), pick it by inverting the CDF."""
    if temperature is None:
        logprobs = torch.log_softmax(logits, dim=-1)
        chosen = logits.argmax(dim=-1)
    else:
        logprobs = torch.log_softmax(logits / temperature, dim=-1)
        cumulated = logprobs.exp().cumsum(dim=-1)
        # Scaled by the last sum, and kept below it, so that rounding cannot point past the last possible token.
        targets = uniforms[:, None].clamp(max=1 - 1e-6) * cumulated[:, -1:]
        chosen = torch.searchsorted(cumulated, targets, right=True).squeeze(1)
    return chosen, logprobs.gather(1, chosen[:, None]).squeeze(1)
