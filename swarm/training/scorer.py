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
    given: Sequence[int] | None = None,
) -> torch.Tensor:
    """Natural log-probability of every token of the completions, each after its prompt; zero beyond its end.

    Shape (completions, longest completion), fp32. `temperatures`, shape (completions,), divides the logits (None: 1).
    So many first tokens of each completion as `given` says belong to its prompt, and have zeros, too.
    """
    layout = lay_out(prompts, completions, pad, device.place, parts.hidden_size)
    completion, place, before, chosen = layout.completion, layout.place, layout.before, layout.chosen
    if given is not None:
        asked = place >= torch.tensor(given, device=device.place)[completion]
        completion, place, before, chosen = completion[asked], place[asked], before[asked], chosen[asked]
    with device.autocast():
        hidden = parts.hidden(layout.ids, layout.mask, layout.positions)
        values = chosen_logprobs(
            parts,
            hidden.flatten(0, 1)[before],
            chosen,
            None if temperatures is None else temperatures[completion],
        )
    logprobs = values.new_zeros(len(completions), max(map(len, completions)))
    return logprobs.index_put((completion, place), values)


@torch.no_grad()
def sum_logprobs(
    parts: Parts, device: Device, pairs: Sequence[tuple[Tokens, Tokens]], pad: int, rows: int
) -> list[float]:
    """Sum of log p(continuation | prefix), in nats, per pair; `rows` pairs per pass, alike prefixes together.

    Prefixes must not be empty; an empty continuation has log-probability 0.
    """
    sums = [0.0] * len(pairs)
    asked = sorted((index for index, (_, after) in enumerate(pairs) if after), key=lambda index: pairs[index])
    heads = shared_heads([pairs[index][0] for index in asked])
    order = sorted(
        zip(asked, heads, strict=True), key=lambda one: (len(one[1]), one[1], len(pairs[one[0]][0])), reverse=True
    )
    for start in range(0, len(order), rows):
        chunk = order[start : start + rows]
        given = [len(pairs[index][0]) - len(head) for index, head in chunk]
        rests = [pairs[index][0][len(head) :] + pairs[index][1] for index, head in chunk]
        logprobs = completion_logprobs(parts, device, [head for _, head in chunk], rests, pad, given=given)
        for (index, _), value in zip(chunk, logprobs.sum(dim=1).tolist(), strict=True):
            sums[index] = value
    return sums


def shared_heads(prefixes: Sequence[Tokens]) -> list[Tokens]:
    """The part of each prefix that a row of the forward pass holds once for several of them.

    It is the whole prefix, or what it has in common with those before it, where these lose no more than half of it by
    that, together.

    Args:
        prefixes: sorted, so that alike ones are neighbours.
    """
    heads: list[Tokens] = []
    members = 0
    for prefix in prefixes:
        head = heads[-1] if heads else ()
        shorter = min(len(head), len(prefix))
        common = next((place for place in range(shorter) if head[place] != prefix[place]), shorter)
        if head and 2 * members * (len(head) - common) <= len(head):
            heads[-members:] = [head[:common]] * members
            members += 1
            heads.append(head[:common])
        else:
            members = 1
            heads.append(prefix)
    return heads
