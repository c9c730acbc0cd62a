"""Completions of prompts, with the log-probabilities under which they were drawn.

Every prompt is prefilled once, whatever the number of its samples, and what all prompts of a batch begin with once for
all of them; finished rows leave the batch. What a row draws follows from the seed and its own place in the request, not
from the size of the batches it was computed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import shake_256
from typing import Protocol

import numpy as np
import torch

from swarm.training import memory
from swarm.training.decoding import Decoder, Steps
from swarm.training.device import Device
from swarm.training.keyvalues import KeyValues
from swarm.training.layout import Tokens
from swarm.training.parts import Parts


@dataclass(frozen=True)
class Drawn:
    tokens: Tokens
    """As sampled, the end token included when finished."""
    logprobs: tuple[float, ...]
    """Natural log-probabilities at the sampling temperature, computed in fp32 from the logits."""
    finished: bool
    """Ended by itself, not by the limit."""


class Sampler(Protocol):
    """Whatever completes prompts: `LocalSampler`, or vLLM (`VllmSampler`)."""

    replicable: bool
    """What it draws follows from the seed by `noise`, so that others can compute it again."""

    def draw(
        self,
        prompts: Sequence[Tokens],
        *,
        samples: int,
        max_new_tokens: int,
        temperature: float | None,
        seed: int,
        rows: int,
    ) -> list[list[Drawn]]:
        """`samples` completions per prompt, in the order of the prompts; `rows` at most at once.

        A temperature of None takes the likeliest token. Prompts must not be empty.

        Raises:
            MemoryError: one row alone does not fit.
        """

    def weights_changed(self) -> None:
        """Called whenever the model has other weights than before."""

    def release(self) -> None:
        """Called before every update: give back memory that the next `draw` can have again."""


class LocalSampler:
    """Samples with the very weights and arithmetic that are trained."""

    replicable = True

    def __init__(self, parts: Parts, device: Device, end_ids: frozenset[int], pad: int) -> None:
        self._parts = parts
        self._device = device
        self._pad = pad
        self._decoder = Decoder(parts, device, torch.tensor(sorted(end_ids), device=device.place))

    def weights_changed(self) -> None:
        pass  # they are the same tensors

    def release(self) -> None:
        pass  # there is only the model itself, and recorded steps of a few rows, which are dear to make

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[Tokens],
        *,
        samples: int,
        max_new_tokens: int,
        temperature: float | None,
        seed: int,
        rows: int,
    ) -> list[list[Drawn]]:
        drawn: list[list[Drawn]] = [[] for _ in prompts]
        waiting = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
        while waiting:
            together = min(samples - len(drawn[waiting[0]]), rows)
            chunk = waiting[: max(1, rows // samples)] if together == samples else waiting[:1]
            done = len(drawn[chunk[0]])
            numbers = [
                noise(seed, index, sample, max_new_tokens) for index in chunk for sample in range(done, done + together)
            ]
            rolled = self._attempt([prompts[index] for index in chunk], together, np.stack(numbers), temperature)
            if rolled is None:
                if rows == 1:
                    raise MemoryError(f"one prompt of {len(prompts[chunk[0]])} tokens does not fit into memory")
                rows = max(1, min(rows, len(chunk) * together) // 2)
                self._decoder.forget()
                memory.release(self._device.place)
                continue
            for place, index in enumerate(chunk):
                drawn[index] += rolled[place * together : (place + 1) * together]
            waiting = [index for index in waiting if len(drawn[index]) < samples]
        return drawn

    def _attempt(
        self, prompts: Sequence[Tokens], samples: int, uniforms: np.ndarray, temperature: float | None
    ) -> list[Drawn] | None:
        """`_roll`, or None when memory ran out; a function of its own so that a failed attempt's tensors are let go."""
        try:
            return self._roll(prompts, samples, uniforms, temperature)
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            return None

    def _roll(
        self, prompts: Sequence[Tokens], samples: int, uniforms: np.ndarray, temperature: float | None
    ) -> list[Drawn]:
        """The completions of one batch, sample by sample within prompt by prompt; uniforms: (rows, max_new_tokens)."""
        place = self._device.place
        limit = uniforms.shape[1]
        shared = shared_head(prompts)
        ids, mask = pad_left([prompt[shared:] for prompt in prompts], self._pad, place)
        width = shared + ids.shape[1]
        positions = (shared - 1 + mask.cumsum(dim=1)).clamp(min=shared)
        with self._device.autocast():
            cache = self._prefilled(prompts[0][:shared]).repeated(len(prompts), width)
            # Padding attends to itself alone, so that its rows are numbers.
            causal = torch.ones(*ids.shape[1:] * 2, dtype=torch.bool, device=place).tril()
            seen = (causal & mask[:, None, :]) | torch.eye(ids.shape[1], dtype=torch.bool, device=place)
            seen = torch.cat([seen.new_ones(*seen.shape[:2], shared), seen], dim=2)
            hidden = self._parts.hidden(ids, seen[:, None], positions, cache)
            cache.used = width
            logits = self._parts.logits(hidden[:, -1]).repeat_interleave(samples, dim=0)
        mask = mask.repeat_interleave(samples, dim=0)
        steps = Steps(
            cache.repeated(samples, width + limit),
            torch.cat([mask.new_ones(len(uniforms), shared), mask, mask.new_ones(len(uniforms), limit)], dim=1),
            positions[:, -1].repeat_interleave(samples) + 1,
            torch.from_numpy(uniforms).to(place),
            temperature,
        )
        tokens, logprobs, lengths, finished = self._decoder.run(logits, steps)
        return [
            Drawn(tuple(row[:length]), tuple(row_logprobs[:length]), ended_itself)
            for row, row_logprobs, length, ended_itself in zip(
                tokens.tolist(), logprobs.tolist(), lengths.tolist(), finished.tolist(), strict=True
            )
        ]

    def _prefilled(self, head: Tokens) -> KeyValues:
        """Keys and values of one row of tokens."""
        cache = KeyValues(len(head))
        if head:
            ids = torch.tensor([head], device=self._device.place)
            causal = torch.ones(len(head), len(head), dtype=torch.bool, device=ids.device).tril()
            self._parts.hidden(ids, causal[None, None], torch.arange(len(head), device=ids.device)[None], cache)
            cache.used = len(head)
        return cache


def shared_head(prompts: Sequence[Tokens]) -> int:
    """With how many tokens several prompts all begin, such as a system prompt; each has one token more at least."""
    if len(prompts) == 1:
        return 0
    shortest = min(map(len, prompts)) - 1
    first, last = min(prompts), max(prompts)  # in the order of a dictionary: no two part earlier than these
    return next((place for place in range(shortest) if first[place] != last[place]), shortest)


def noise(seed: int, prompt: int, sample: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1), fp32, one per position of one completion: SHAKE-256 of its place, 24 bits each.

    Whoever knows the seed can compute them again, for one completion alone.
    """
    stream = shake_256(f"{seed} {prompt} {sample}".encode()).digest(4 * count)
    return (np.frombuffer(stream, dtype="<u4") >> 8).astype(np.float32) / np.float32(2**24)


def pad_left(prompts: Sequence[Tokens], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (true on real tokens) of shape (rows, longest prompt)."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
