"""Weights as bytes of safetensors, and back: what comes from a peer is typed, bounded and finite, or refused."""

import math
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from swarm.errors import SwarmError

Tensors = Mapping[str, torch.Tensor]

MAX_BLOB_BYTES = 48 * 2**20
"""Learners whose weights take more than this keep them to themselves: at 10 Mbit/s it takes 40 s."""
_HEADER_BYTES_PER_TENSOR = 512


class WeightsRefused(SwarmError):
    """A blob that holds no weights of this model. `reason` is a word or two, for counting."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


def encode(tensors: Tensors, dtype: torch.dtype | None = None) -> bytes:
    """Tensors as safetensors, in `dtype` or, without one, each exactly as it is."""
    return save({name: one.detach().to("cpu", dtype or one.dtype).contiguous() for name, one in tensors.items()})


def max_blob_bytes(like: Tensors, dtype: torch.dtype | None = None) -> int:
    """No blob of `encode` for tensors of these names and shapes is longer."""
    return 8 + sum((dtype or one.dtype).itemsize * one.numel() + _HEADER_BYTES_PER_TENSOR for one in like.values())


def decode(
    blob: bytes, like: Tensors, dtype: torch.dtype | None = None, largest: float = math.inf
) -> dict[str, torch.Tensor]:
    """The tensors in a blob, with exactly the names and shapes of `like`, on its device and in its types.

    Args:
        dtype: in which they were encoded; None for that of `like`.
        largest: what no number may exceed.

    Raises:
        WeightsRefused: it is too long, no safetensors, of another model, of another type, or holds a number that is
            too large or not finite. Uses no more memory than a few times the size of `like`.
    """
    if len(blob) > max_blob_bytes(like, dtype):
        raise WeightsRefused("too large", f"weights of {len(blob)} bytes; {max_blob_bytes(like, dtype)} are allowed")
    try:
        tensors = load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise WeightsRefused("garbage", f"weights that are no safetensors file: {error}") from error
    if {name: tensor.shape for name, tensor in tensors.items()} != {name: own.shape for name, own in like.items()}:
        raise WeightsRefused("another model", "weights with names or shapes that are not this model's")
    if any(tensor.dtype != (dtype or like[name].dtype) for name, tensor in tensors.items()):
        raise WeightsRefused("garbage", "weights that are not in the type in which this model's are sent")
    sizes = [float(tensor.abs().max()) for tensor in tensors.values() if tensor.numel()]
    if not all(map(math.isfinite, sizes)):
        raise WeightsRefused("not finite", "weights with a number that is not finite")
    if max(sizes, default=0.0) > largest:
        raise WeightsRefused("too long", f"weights with a number above {largest:g}")
    return {name: tensors[name].to(own.device, own.dtype) for name, own in like.items()}
