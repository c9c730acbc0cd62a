"""Prompts and completions as the rows of one forward pass, where completions of one prompt share it.

A row is a prompt and some of its completions, one after the other; each sees the prompt and itself. So a prompt is
computed once for all of them, forward and backward: with short answers to long questions that is most of the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """T is the longest row, N the number of completion tokens."""

    ids: torch.Tensor
    """(rows, T)."""
    mask: torch.Tensor
    """(rows, 1, T, T), true where a token (dimension 2) attends to another (dimension 3)."""
    positions: torch.Tensor
    """(rows, T): of a token in its own prompt and completion."""
    before: torch.Tensor
    """(N,): index into the flattened rows of the token before each completion token."""
    chosen: torch.Tensor
    """(N,): the completion tokens."""
    completion: torch.Tensor
    """(N,): which completion, in the caller's order."""
    place: torch.Tensor
    """(N,): its place in that completion."""


def lay_out(
    prompts: Sequence[Tokens], completions: Sequence[Tokens], pad: int, device: torch.device, hidden: int
) -> Layout:
    """One completion per prompt, in any order; equal prompts share. `hidden` is the model's hidden size."""
    rows = _rows(prompts, completions, hidden)
    width = max(len(prompts[row[0]]) + sum(len(completions[index]) for index in row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    segments = torch.full((len(rows), width), -1)  # 0: prompt; 1, 2, ...: its completions; -1: padding
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    before: list[int] = []
    chosen: list[int] = []
    completion: list[int] = []
    place: list[int] = []
    for number, row in enumerate(rows):
        prompt = prompts[row[0]]
        length = len(prompt)
        ids[number, :length] = torch.tensor(prompt)
        segments[number, :length] = 0
        positions[number, :length] = torch.arange(length)
        start = length
        for segment, index in enumerate(row, start=1):
            tokens = completions[index]
            end = start + len(tokens)
            ids[number, start:end] = torch.tensor(tokens, dtype=torch.long)
            segments[number, start:end] = segment
            positions[number, start:end] = torch.arange(length, length + len(tokens))
            if tokens:
                before += [number * width + length - 1, *range(number * width + start, number * width + end - 1)]
            chosen += tokens
            completion += [index] * len(tokens)
            place += range(len(tokens))
            start = end
    return Layout(
        ids.to(device),
        _mask(segments.to(device)),
        positions.to(device),
        torch.tensor(before, device=device),
        torch.tensor(chosen, device=device),
        torch.tensor(completion, device=device),
        torch.tensor(place, device=device),
    )


def sharing(prompt: int, completion: float, hidden: int) -> int:
    """How many completions of `completion` tokens should share a row with a prompt of `prompt` tokens; a power of 2.

    Sharing saves the prompt's matrix products (about 24 * hidden per token, in units of a layer's hidden size), but
    attention (4 per pair of tokens) is computed across completions and thrown away.
    """

    def cost(number: int) -> float:
        tokens = prompt + number * completion
        return (24 * hidden * tokens + 4 * tokens**2) / number

    number = 1
    while number < 256 and cost(2 * number) < cost(number):
        number *= 2
    return number


def _rows(prompts: Sequence[Tokens], completions: Sequence[Tokens], hidden: int) -> list[list[int]]:
    """Indices of the completions of each row."""
    same: dict[Tokens, list[int]] = {}
    for index, prompt in enumerate(prompts):
        same.setdefault(prompt, []).append(index)
    rows = []
    for prompt, indices in same.items():
        mean = sum(len(completions[index]) for index in indices) / len(indices)
        number = sharing(len(prompt), mean, hidden)
        rows += [indices[start : start + number] for start in range(0, len(indices), number)]
    return rows


def _mask(segments: torch.Tensor) -> torch.Tensor:
    asks, asked = segments[:, :, None], segments[:, None, :]
    width = segments.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    # Padding sees the padding before it: a token that attends to nothing would be not a number.
    return (earlier & ((asked == 0) | (asked == asks)))[:, None]
