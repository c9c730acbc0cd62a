"""How vLLM is called, shown on a stand-in: vLLM itself needs a CUDA GPU and has not been run here."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from swarm.errors import SwarmError
from swarm.recipe.schema import Lora
from swarm.training.vllm_sampler import VllmSampler, merged_weights
from tests.training.training_helpers import experience, prompts


class StandIn:
    """Notes its calls; every completion is the tokens 5 and 1."""

    def __init__(self, **settings):
        self.said = [("start", settings)]

    def __getattr__(self, name):
        return lambda *arguments, **more: self.said.append((name, arguments, more))

    def generate(self, inputs, parameters, use_tqdm):
        self.said.append(("generate", inputs, parameters))
        one = SimpleNamespace(
            token_ids=[5, 1],
            logprobs=[{5: SimpleNamespace(logprob=-0.5)}, {1: SimpleNamespace(logprob=-0.25)}],
            finish_reason="stop",
        )
        return [SimpleNamespace(outputs=[one] * parameters.n) for _ in inputs]


def on_cuda(loaded):
    return replace(loaded, device=SimpleNamespace(place=SimpleNamespace(type="cuda")))


def test_weights_are_sent_once_per_update_and_it_sleeps_when_told(load, monkeypatch, tmp_path):
    module = SimpleNamespace(LLM=StandIn, SamplingParams=lambda **named: SimpleNamespace(**named))
    monkeypatch.setitem(sys.modules, "vllm", module)
    learner = load()
    sampler = VllmSampler(on_cuda(learner._loaded), tmp_path, seed=1)
    asked = dict(samples=2, max_new_tokens=4, temperature=0.7, seed=3, rows=8)
    for _ in range(2):
        [[first, _], _] = sampler.draw(prompts(learner)[:2], **asked)
        assert (first.tokens, first.logprobs, first.finished) == ((5, 1), (-0.5, -0.25), True)
    sampler.release()
    sampler.weights_changed()
    sampler.draw(prompts(learner)[:2], **asked)
    names = [call[0] for call in sampler._engine.said]
    again = ["wake_up", "apply_model", "reset_prefix_cache", "generate"]
    assert names == ["start", "sleep", *again, "generate", "sleep", *again]
    parameters = sampler._engine.said[-1][2]
    assert (parameters.n, parameters.max_tokens, parameters.temperature) == (2, 4, 0.7)


def test_without_vllm_or_a_gpu_it_says_what_to_do(load, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    loaded = load()._loaded
    with pytest.raises(SwarmError, match="CUDA GPU only"):
        VllmSampler(loaded, tmp_path, seed=1)
    with pytest.raises(SwarmError, match="pip install"):
        VllmSampler(on_cuda(loaded), tmp_path, seed=1)


def test_merged_weights_compute_what_the_adapted_model_computes(load):
    plain, adapted = load(), load(lora=Lora(rank=4, alpha=8.0))
    adapted.update(experience(adapted))
    model = plain._loaded.model
    missing, unexpected = model.load_state_dict(dict(merged_weights(adapted._loaded.model)), strict=False)
    assert (set(missing) <= {"lm_head.weight"}, unexpected) == (True, [])
    ids = torch.tensor([prompts(plain)[0]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, adapted._loaded.model(ids).logits, atol=1e-4)
