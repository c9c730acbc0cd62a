"""Keys and values of rows that grow together: one buffer per layer, written in place.

It stands where transformers expects a cache. Masks and positions are given by the caller, so nothing is derived from it
and no step copies what the steps before it computed.
"""

from typing import Any

import torch


class KeyValues:
    """For models whose every layer attends to all earlier tokens."""

    def __init__(self, width: int) -> None:
        self.width = width
        """Slots per row."""
        self.used = 0
        """Slots that are written; the caller raises it after each forward pass."""
        self.slot: torch.Tensor | None = None
        """Where a CUDA graph writes, shape (1,): attention sees all slots, and the mask says what is real."""
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the layer attends to after adding `keys` and `values`; shapes (rows, heads, tokens, head size)."""
        if layer == len(self._layers):
            shape = (*keys.shape[:2], self.width, keys.shape[3])
            # Zeros, since what is masked is still multiplied, by 0: it must be a number.
            self._layers.append((keys.new_zeros(shape), values.new_zeros((*shape[:3], values.shape[3]))))
        all_keys, all_values = self._layers[layer]
        if self.slot is not None:
            all_keys.index_copy_(2, self.slot, keys)
            all_values.index_copy_(2, self.slot, values)
            return all_keys, all_values
        end = self.used + keys.shape[2]
        all_keys[:, :, self.used : end] = keys
        all_values[:, :, self.used : end] = values
        return all_keys[:, :, :end], all_values[:, :, :end]

    def get_seq_length(self, *_: Any) -> int:
        return self.used

    def repeated(self, times: int, width: int) -> "KeyValues":
        """A copy with every row `times` times in a row, and `width` slots."""
        grown = KeyValues(width)
        grown.used = self.used
        for layer in self._layers:
            keys, values = (_widened(one[:, :, : self.used].repeat_interleave(times, dim=0), width) for one in layer)
            grown._layers.append((keys, values))
        return grown

    def keep(self, rows: torch.Tensor) -> None:
        """Let go of all other rows."""
        for index, (keys, values) in enumerate(self._layers):
            self._layers[index] = keys[rows], values[rows]

    def load(self, other: "KeyValues") -> None:
        """Take over the written slots of `other`, which has as many rows; this one's buffers stay where they are."""
        for (keys, values), (from_keys, from_values) in zip(self._layers, other._layers, strict=True):
            keys[:, :, : other.used] = from_keys[:, :, : other.used]
            values[:, :, : other.used] = from_values[:, :, : other.used]
        self.used = other.used


def _widened(one: torch.Tensor, width: int) -> torch.Tensor:
    wide = one.new_zeros((*one.shape[:2], width, one.shape[3]))
    wide[:, :, : one.shape[2]] = one
    return wide
