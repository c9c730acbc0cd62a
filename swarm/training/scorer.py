"""Log-probabilities of given tokens: one forward pass serves the update, the judge and the tests."""

from collections.abc import Sequence

import torch

from swarm.training.device import Device
from swarm.training.head import chosen_logprobs
from swarm.training.layout import Tokens, lay_out
from swarm.training.parts import Parts


def completion_logprobs(
    parts: Parts,
    device: Device,
    prompts: Sequence[Tokens],
    completions: Sequence[Tokens],
    pad: int,
    temperatures: torch.Tensor | None = None,
) -> torch.Tensor:
    """Natural log-probability of every token of the completions, each after its prompt; zero beyond its end.

    Shape (completions, longest completion), fp32. `temperatures`, shape (completions,), divides the logits (None: 1).
    """
    layout = lay_out(prompts, completions, pad, device.place, parts.hidden_size)
    with device.autocast():
        hidden = parts.hidden(layout.ids, layout.mask, layout.positions)
        values = chosen_logprobs(
            parts,
            hidden.flatten(0, 1)[layout.before],
            layout.chosen,
            None if temperatures is None else temperatures[layout.completion],
        )
    logprobs = values.new_zeros(len(completions), max(map(len, completions)))
    return logprobs.index_put((layout.completion, layout.place), values)


@torch.no_grad()
def sum_logprobs(
    parts: Parts, device: Device, pairs: Sequence[tuple[Tokens, Tokens]], pad: int, rows: int
) -> list[float]:
    """Sum of log p(continuation | prefix), in nats, per pair; `rows` pairs per pass, alike prefixes together.

    Prefixes must not be empty; an empty continuation has log-probability 0.
    """
    sums = [0.0] * len(pairs)
    order = sorted(
        (index for index, (_, after) in enumerate(pairs) if after),
        key=lambda index: (len(pairs[index][0]), pairs[index][0], len(pairs[index][1])),
        reverse=True,
    )
    for start in range(0, len(order), rows):
        chunk = order[start : start + rows]
        logprobs = completion_logprobs(
            parts, device, [pairs[index][0] for index in chunk], [pairs[index][1] for index in chunk], pad
        )
        for index, value in zip(chunk, logprobs.sum(dim=1).tolist(), strict=True):
            sums[index] = value
    return sums
