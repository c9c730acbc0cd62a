"""What other weights of the same fingerprint would have sampled: one prefill instead of a generation.

Sampling inverts the cumulated probabilities at one public number per token (`sampler.noise`). That number is all that a
checker needs, where Gumbel noise would take one per entry of the vocabulary; and a token that the number does not point
to is seen whatever its claimed probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from swarm.training.model import Loaded

TOLERANCE = 0.03
"""Of the cumulated probability: batches of other shapes round otherwise, most of all in bfloat16."""


@dataclass(frozen=True)
class Replayed:
    """One completion, recomputed."""

    logprobs: tuple[float, ...]
    misses: int
    """Tokens to which their noise does not point."""
    ends_rightly: bool
    """Finished with an end token, without one before; or without any."""


@torch.no_grad()
def replay(
    loaded: Loaded,
    prompt: Sequence[int],
    completions: Sequence[tuple[Sequence[int], bool]],
    temperature: float,
    uniforms: Sequence[np.ndarray],
) -> list[Replayed]:
    """Recompute completions, each (tokens, finished), of one prompt; `uniforms` holds the noise of each."""
    rows = [[*prompt, *tokens] for tokens, _ in completions]
    width = max(map(len, rows))
    place = loaded.device.place
    ids = torch.tensor([row + [loaded.pad] * (width - len(row)) for row in rows], device=place)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=place)
    with loaded.device.autocast():
        logits = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    found = []
    for row, (tokens, finished), numbers in zip(logits, completions, uniforms, strict=True):
        chosen = torch.tensor(tokens, device=place)[:, None]
        scores = row[len(prompt) - 1 : len(prompt) - 1 + len(tokens)].float() / temperature
        logprobs = torch.log_softmax(scores, dim=-1)
        upper = logprobs.exp().cumsum(dim=-1).gather(1, chosen).squeeze(1)
        own = logprobs.gather(1, chosen).squeeze(1)
        lower = upper - own.exp()
        points = torch.from_numpy(np.array(numbers[: len(tokens)])).to(place)
        misses = (points < lower - TOLERANCE) | (points > upper + TOLERANCE)
        ends = [token in loaded.end_ids for token in tokens]
        found.append(Replayed(tuple(own.tolist()), int(misses.sum()), ends[-1] == finished and not any(ends[:-1])))
    return found
