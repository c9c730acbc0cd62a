"""LoRA deltas merged by what they do to the model: by the mean of the products B A, not of the factors."""

from collections.abc import Mapping, Sequence

import torch

from swarm.training.merging import Delta


@torch.no_grad()
def merge_products(deltas: Sequence[Delta], start: Mapping[str, torch.Tensor]) -> Delta:
    """A is the mean of the A; B is the one whose product with it is nearest (Frobenius) to the mean of the products.

    A factorization is free up to an invertible matrix; this one stays where the optimiser's moments belong.
    """
    merged: Delta = {}
    for name in deltas[0]:
        if ".lora_A." not in name:
            continue
        other = name.replace(".lora_A.", ".lora_B.")
        down = torch.stack([start[name] + delta[name] for delta in deltas])  # (peers, rank, in)
        up = torch.stack([start[other] + delta[other] for delta in deltas])  # (peers, out, rank)
        mean = down.mean(dim=0)
        projected = (up @ (down @ mean.T)).mean(dim=0)  # the mean product times A transposed: (out, rank)
        merged[name] = mean - start[name]
        merged[other] = torch.linalg.solve(mean @ mean.T, projected, left=False) - start[other]
    return merged
