"""How vLLM is called, shown on a stand-in; tests/training/test_vllm_itself.py runs it where it is installed."""

import os
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
        return [SimpleNamespace(outputs=[one] * asked.n) for _, asked in zip(inputs, parameters, strict=True)]


def on_cuda(loaded):
    place = SimpleNamespace(type="cuda")
    return replace(loaded, device=SimpleNamespace(place=place, autocast_dtype=torch.bfloat16))


@pytest.fixture
def start(load, monkeypatch, tmp_path):
    """A learner of the tiny model that samples with the stand-in."""
    module = SimpleNamespace(LLM=StandIn, SamplingParams=lambda **named: SimpleNamespace(**named))
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)

    def start():
        learner = load(lora=Lora(rank=4, alpha=8.0))
        learner._sampler = VllmSampler(on_cuda(learner._loaded), tmp_path, seed=2**40)
        return learner

    yield start
    os.environ.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)


def said(learner):
    return [call[0] for call in learner._sampler._engine.said]


ASKED = dict(samples=2, max_new_tokens=4, temperature=0.7, seed=3, rows=8)
LOADED = ["collective_rpc", "reset_prefix_cache", "generate"]


def test_weights_are_sent_once_per_update_and_it_sleeps_when_told(start):
    learner = start()
    sampler = learner._sampler
    for _ in range(2):
        [[first, _], _] = sampler.draw(prompts(learner)[:2], **ASKED)
        assert (first.tokens, first.logprobs, first.finished) == ((5, 1), (-0.5, -0.25), True)
    sampler.release()
    sampler.weights_changed()
    sampler.draw(prompts(learner)[:2], **ASKED)
    assert said(learner) == ["start", "sleep", "wake_up", *LOADED, "generate", "sleep", "wake_up", *LOADED]
    one, other = sampler._engine.said[-1][2]
    assert (one.n, one.max_tokens, one.temperature) == (2, 4, 0.7)
    assert abs(one.seed - other.seed) > 1000, "vLLM counts up from the seed for the samples of a prompt"


def test_it_starts_in_this_process_with_room_for_what_it_is_asked_and_no_more_ends_than_ours(start):
    learner = start()
    settings = learner._sampler._engine.said[0][1]
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    limit = learner._loaded.model.config.max_position_embeddings
    assert (settings["max_model_len"], settings["generation_config"]) == (limit, "vllm")
    assert 0 <= settings["seed"] < 2**32
    with pytest.raises(SwarmError, match=f"takes {limit} here"):
        learner._sampler.draw([(5,) * limit], **ASKED)
    with pytest.raises(SwarmError, match="temperatures up to 2"):
        learner._sampler.draw(prompts(learner), **{**ASKED, "temperature": 3.0})


def test_greedy_answers_are_asked_for_once(start):
    learner = start()
    [row] = learner._sampler.draw(prompts(learner)[:1], **{**ASKED, "temperature": None})
    assert len(row) == 2 and learner._sampler._engine.said[-1][2][0].n == 1


@pytest.mark.parametrize("change", ["update", "merge", "others", "restore"])
def test_whatever_changes_the_weights_has_them_sent_again(start, change):
    learner = start()
    groups = experience(learner)
    before = said(learner).count("collective_rpc")
    match change:
        case "update":
            learner.update(groups)
        case "merge":
            learner.move_to(learner.delta())
        case "others":
            with learner.with_weights(learner.weights()):
                learner.greedy(prompts(learner), 4)
            before += 1
        case "restore":
            learner.put_back(learner.snapshot())
    learner.greedy(prompts(learner), 4)
    assert said(learner).count("collective_rpc") == before + 1


@pytest.mark.parametrize(
    "error",
    [ValueError("Free memory on device is less than desired"), ImportError("No module named 'flashinfer'")],
)
def test_why_it_does_not_start_is_said(load, monkeypatch, tmp_path, error):
    def cannot_start(**_):
        raise error

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=cannot_start, SamplingParams=None))
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    with pytest.raises(SwarmError, match=f"on this cuda: {error}; leave --sampler out"):
        VllmSampler(on_cuda(load()._loaded), tmp_path, seed=1)


def test_without_vllm_or_on_another_device_it_says_what_to_do(load, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    loaded = load()._loaded
    with pytest.raises(SwarmError, match="does not sample on mps"):
        VllmSampler(replace(loaded, device=replace(loaded.device, place=torch.device("mps"))), tmp_path, seed=1)
    with pytest.raises(SwarmError, match="pip install"):
        VllmSampler(loaded, tmp_path, seed=1)


def test_merged_weights_compute_what_the_adapted_model_computes(load):
    plain, adapted = load(), load(lora=Lora(rank=4, alpha=8.0))
    adapted.update(experience(adapted))
    model = plain._loaded.model
    missing, unexpected = model.load_state_dict(dict(merged_weights(adapted._loaded.model)), strict=False)
    assert (set(missing) <= {"lm_head.weight"}, unexpected) == (True, [])
    ids = torch.tensor([prompts(plain)[0]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, adapted._loaded.model(ids).logits, atol=1e-4)
