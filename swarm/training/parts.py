"""A causal language model as its two parts: the body that ends in hidden states, the head that turns them into logits.

The head is the widest layer by far; apart from the body it can be computed for the tokens that count, a few at a time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PretrainedConfig

from swarm.errors import SwarmError


@dataclass(frozen=True)
class Parts:
    body: torch.nn.Module
    head: torch.nn.Module
    frozen_head: torch.Tensor | None
    """The head's weight in the type of the arithmetic, where it is not trained: it need not be converted each time."""
    softcap: float | None
    scale: float
    hidden_size: int
    vocabulary: int

    @classmethod
    def of(cls, model: Any, dtype: torch.dtype | None) -> "Parts":
        """The parts of a transformers model, wrapped by PEFT or not; `dtype` is that of the arithmetic.

        Raises:
            SwarmError: a layer of the model is of a kind that is not plain attention.
        """
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        config = base.config.get_text_config()
        _check_layers(config)
        head = base.get_output_embeddings()
        plain = type(head) is torch.nn.Linear and head.bias is None
        frozen = plain and not head.weight.requires_grad
        return cls(
            getattr(base, base.base_model_prefix),
            head,
            head.weight.detach().to(dtype or head.weight.dtype) if frozen else None,
            getattr(config, "final_logit_softcapping", None),
            _scale(config),
            config.hidden_size,
            head.weight.shape[0],
        )

    def hidden(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any = None) -> torch.Tensor:
        """Last hidden states, shape (rows, tokens, hidden).

        `mask`, shape (rows or 1, 1, tokens, keys), is true where a token attends to a key.
        """
        return self.body(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of hidden states of any leading shape; fp32."""
        if self.frozen_head is not None:
            logits = functional.linear(hidden.to(self.frozen_head.dtype), self.frozen_head)
        else:
            logits = self.head(hidden)
        logits = logits.float()
        if self.scale != 1:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


def _scale(config: PretrainedConfig) -> float:
    """Some families scale their logits: Cohere multiplies, Granite divides."""
    return float(getattr(config, "logit_scale", None) or 1) / float(getattr(config, "logits_scaling", None) or 1)


def _check_layers(config: PretrainedConfig) -> None:
    odd = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if odd:
        raise SwarmError(
            f"a model of type {config.model_type} has layers of the kind {sorted(odd)[0]}, which cannot be trained "
            "here; choose one whose layers are all plain attention, such as Llama, Qwen2, Qwen3 or Gemma"
        )
