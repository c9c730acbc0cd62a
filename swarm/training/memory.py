"""How many rows fit into memory at once: an estimate before, and what counts as running out after.

The estimate is deliberately simple (it was within a factor of 1.5 on SmolLM2-135M); whoever uses it halves its rows
when `is_out_of_memory` says that they did not fit.
"""

import gc
import resource
import sys
from dataclasses import dataclass

import psutil
import torch
from transformers import PretrainedConfig

from swarm.training import container

SHARE_OF_FREE = 0.6
ACTIVATIONS_PER_TOKEN = 28
"""fp32 numbers that a backward pass keeps per token, layer and hidden unit; measured 20 to 25 on Llama shapes."""
LOGITS_COPIES = 4
"""Copies of a row's next logits alive at once while it samples: logits, temperature, log-softmax, cumulated."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that decide what a row costs."""

    layers: int
    hidden: int
    cache: int
    """Numbers that one token adds to the key and value caches of one layer."""
    vocabulary: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> "Shape":
        text = config.get_text_config()
        heads = text.num_attention_heads
        head = getattr(text, "head_dim", None) or text.hidden_size // heads
        kept = getattr(text, "num_key_value_heads", None) or heads
        return cls(text.num_hidden_layers, text.hidden_size, 2 * kept * head, text.vocab_size)


_limit: int | None = None


def limit(device: torch.device, total: int) -> None:
    """Act as if the GPU had `total` bytes: beyond them PyTorch runs out of memory."""
    global _limit
    _limit = total
    torch.cuda.set_per_process_memory_fraction(
        min(1.0, total / torch.cuda.get_device_properties(device).total_memory), device
    )


def free_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        machine, ours = psutil.virtual_memory().available, container.free_bytes()
        return machine if ours is None else min(machine, ours)
    free, _ = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    free += torch.cuda.memory_reserved(device) - allocated
    return free if _limit is None else min(free, _limit - allocated)


def peak_bytes(device: torch.device) -> int:
    """Most memory that was in use at once: on a GPU that of tensors, else the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def training_rows(shape: Shape, tokens: int, free: int, *, checkpointing: bool) -> int:
    """Rows of `tokens` that a forward and backward pass can hold; >= 1.

    With checkpointing a layer keeps only what goes into it, and one layer at a time is computed again.
    """
    kept = shape.layers + ACTIVATIONS_PER_TOKEN if checkpointing else shape.layers * ACTIVATIONS_PER_TOKEN
    return max(1, int(free * SHARE_OF_FREE) // (4 * tokens * shape.hidden * kept))


def scoring_rows(shape: Shape, tokens: int, free: int) -> int:
    """The same for a forward pass alone, where only one layer's activations live at a time; >= 1."""
    return max(1, int(free * SHARE_OF_FREE) // (4 * tokens * shape.hidden * ACTIVATIONS_PER_TOKEN))


def sampling_rows(shape: Shape, tokens: int, free: int) -> int:
    """Rows that grow to `tokens` with their key and value caches (twice: a cache is copied as it grows); >= 1."""
    row = 4 * (
        2 * tokens * shape.layers * shape.cache
        + tokens * shape.hidden * ACTIVATIONS_PER_TOKEN
        + shape.vocabulary * LOGITS_COPIES
    )
    return max(1, int(free * SHARE_OF_FREE) // row)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is a device or the CPU allocator saying that there is no memory, in whichever words."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in said for words in ("out of memory", "can't allocate memory", "cannot allocate memory")
    )


def release(device: torch.device) -> None:
    """Give back what a failed attempt still holds."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
