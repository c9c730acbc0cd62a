"""Log-probabilities of chosen tokens from hidden states, without the logits of all tokens at once.

The vocabulary is wide: for 4096 tokens of Qwen2.5 the logits alone would be 2.5 GB in fp32, and several times that in a
backward pass. Here they exist for `CHUNK_BYTES` at a time, and again while the gradient flows back.
"""

import torch
from torch.utils.checkpoint import checkpoint

from swarm.training.parts import Parts

CHUNK_BYTES = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}
"""fp32 logits alive at once: enough to keep the hardware busy."""


def chosen_logprobs(
    parts: Parts, hidden: torch.Tensor, chosen: torch.Tensor, temperatures: torch.Tensor | None
) -> torch.Tensor:
    """Natural log-probability of `chosen` after each hidden state; shape (tokens,), fp32.

    Args:
        hidden: (tokens, hidden size).
        chosen: (tokens,).
        temperatures: (tokens,), divides the logits; None: 1.
    """
    size = chunk_tokens(parts, hidden.device)
    pieces = []
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        arguments = parts, hidden[part], chosen[part], None if temperatures is None else temperatures[part]
        if torch.is_grad_enabled():
            # Nothing in the head is random.
            pieces.append(checkpoint(_chunk, *arguments, use_reentrant=False, preserve_rng_state=False))
        else:
            pieces.append(_chunk(*arguments))
    return torch.cat(pieces) if pieces else hidden.new_zeros(0, dtype=torch.float32)


def chunk_tokens(parts: Parts, device: torch.device) -> int:
    """Tokens whose logits exist at once."""
    return max(1, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"]) // (4 * parts.vocabulary))


def _chunk(parts: Parts, hidden: torch.Tensor, chosen: torch.Tensor, temperatures: torch.Tensor | None) -> torch.Tensor:
    logits = parts.logits(hidden)
    if temperatures is not None:
        logits = logits / temperatures[:, None]
    return logits.gather(1, chosen[:, None]).squeeze(1) - torch.logsumexp(logits, dim=1)
