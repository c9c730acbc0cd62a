"""A causal language model from a directory: its weights, optional LoRA, its tokenizer, and what identifies them.

Only safetensors are read and no code that comes with a model is run.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from swarm.errors import SwarmError
from swarm.recipe.schema import Lora
from swarm.recipe.schema import Model as ModelSettings
from swarm.training.device import Device, choose
from swarm.training.parts import Parts
from swarm.training.quiet import quiet


@dataclass(frozen=True)
class Loaded:
    model: Any
    """The transformers model, wrapped by PEFT where there is LoRA; in evaluation mode, on the device."""
    parts: Parts
    tokenizer: PreTrainedTokenizerBase
    device: Device
    end_ids: frozenset[int]
    """Tokens that end a completion: the tokenizer's and every one that the model declares."""
    pad: int
    base_fingerprint: str
    """SHA-256 (hex) over the starting weights."""
    tokenizer_fingerprint: str

    @property
    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def copy_weights(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self.trainable.items()}

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self.trainable.items():
            weight.copy_(weights[name])


def load(directory: Path, settings: ModelSettings, *, seed: int, device: str | None) -> Loaded:
    """The model in `directory`, which holds config, safetensors and tokenizer as `save_pretrained` writes them.

    `seed` decides LoRA's first weights (Hu et al. 2021, arXiv 2106.09685), which leave the model's output unchanged.

    Raises:
        SwarmError: there is no such model, it does not load, or LoRA's targets name none of its layers.
    """
    if not (directory / "config.json").is_file():
        raise SwarmError(f"{directory} holds no model: config.json is missing")
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        with quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(
                directory,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise SwarmError(f"the model in {directory} does not load: {_first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise SwarmError(f"the tokenizer in {directory} has no end-of-text token, so a completion could never end")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    base_fingerprint = fingerprint_of(model.named_parameters())
    chosen = choose(sum(weight.numel() for weight in model.parameters()), settings.autocast, device)
    if settings.dtype == "bfloat16":
        model.to(torch.bfloat16)
        chosen = chosen.without_autocast("bfloat16 weights")
    model.config.use_cache = False
    if settings.lora is not None:
        model = _with_lora(model, settings.lora, seed, directory)
        if chosen.autocast_dtype is not None:
            _convert_frozen(model, chosen.autocast_dtype)
    model.to(chosen.place).eval()
    return Loaded(
        model,
        Parts.of(model, chosen.autocast_dtype),
        tokenizer,
        chosen,
        _end_ids(model, tokenizer),
        pad,
        base_fingerprint,
        _tokenizer_fingerprint(tokenizer),
    )


def fingerprint_of(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """SHA-256 (hex) over names, shapes and bytes of the weights, in the order of their names."""
    digest = sha256()
    for name, weight in sorted(weights, key=lambda pair: pair[0]):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _with_lora(model: Any, lora: Lora, seed: int, directory: Path) -> Any:
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return get_peft_model(model, config)
    except ValueError as error:
        raise SwarmError(
            f"model.lora.targets {lora.targets!r} fit no layer of {directory}: {_first_line(error)}"
        ) from error


def _convert_frozen(model: Any, dtype: torch.dtype) -> None:
    """Frozen matrices in the type in which autocast multiplies them anyway: half the memory, and nothing to convert."""
    output = model.get_output_embeddings()
    for module in model.modules():
        if type(module) is torch.nn.Linear and module is not output and not module.weight.requires_grad:
            module.weight.data = module.weight.data.to(dtype)


def _end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    declared = model.generation_config.eos_token_id
    more = [declared] if isinstance(declared, int) else list(declared or [])
    return frozenset([tokenizer.eos_token_id, *more])


def _tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 (hex) over what decides token ids: vocabulary, merges and normalisation, and the end token."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = json.loads(backend.to_str())
        rules.pop("truncation", None)
        rules.pop("padding", None)
    else:
        rules = tokenizer.get_vocab()
    text = json.dumps([rules, tokenizer.eos_token_id], sort_keys=True, ensure_ascii=True)
    return sha256(text.encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
