"""Sampler, scorer, TRL and a textbook log-softmax agree on every log-probability."""

import pytest
import torch
from trl import GRPOTrainer

from swarm.recipe.schema import StageSettings
from swarm.training.parts import Parts
from swarm.training.sampler import shared_head
from swarm.training.scorer import completion_logprobs, shared_heads
from tests.training.training_helpers import WORDS, experience, prompts


def reference(learner, prompt, tokens, temperature=1.0):
    """One row alone, unpadded, without a cache: log-probabilities of `tokens` after `prompt`."""
    with torch.no_grad():
        logits = learner._loaded.model(input_ids=torch.tensor([prompt + tokens])).logits[0]
    logprobs = torch.log_softmax(logits.double() / temperature, dim=-1)
    return [logprobs[len(prompt) - 1 + place, token].item() for place, token in enumerate(tokens)]


def test_scored_logprobs_equal_the_textbook_and_trl(load):
    learner = load()
    loaded = learner._loaded
    rows = [(group.prompt, tokens) for group in experience(learner) for tokens, _ in group.completions]
    with torch.no_grad():
        ours = completion_logprobs(loaded.parts, loaded.device, *zip(*rows, strict=True), loaded.pad)
    for index, (prompt, tokens) in enumerate(rows):
        ids = torch.tensor([prompt + tokens])
        theirs, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
            learner._updater._trainer, loaded.model, ids, torch.ones_like(ids), len(tokens)
        )
        assert ours[index, : len(tokens)].tolist() == pytest.approx(theirs[0].tolist(), abs=1e-5)
        assert ours[index, : len(tokens)].tolist() == pytest.approx(reference(learner, prompt, tokens), abs=1e-5)
        assert not ours[index, len(tokens) :].any()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_behaviour_logprobs_are_those_of_the_sampled_tokens_end_token_included(load, temperature):
    learner = load()
    drawn = learner.generate(
        prompts(learner), StageSettings(samples=6, max_new_tokens=4, temperature=temperature), seed=3
    )
    finished = 0
    for prompt, row in zip(prompts(learner), drawn, strict=True):
        for one in row:
            assert one.logprobs == pytest.approx(reference(learner, prompt, one.tokens, temperature), abs=1e-5)
            assert one.finished == (one.tokens[-1] in learner._loaded.end_ids)
            assert one.finished or len(one.tokens) == 4
            finished += one.finished
    assert 0 < finished < 48


def test_padding_and_batch_size_do_not_change_what_is_sampled(load):
    learner = load()
    mixed = [
        learner.encode(text, chat=False, system="") for text in ("sun>", "moon=nom:no noom no mnoo>", "tree=eert?")
    ]
    options = dict(samples=5, max_new_tokens=10, temperature=1.0, seed=1)
    together = learner._sampler.draw(mixed, rows=100, **options)
    few = learner._sampler.draw(mixed, rows=2, **options)
    for row_together, row_few in zip(together, few, strict=True):
        for one, other in zip(row_together, row_few, strict=True):
            assert one.tokens == other.tokens
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("words", [("sun>", "sun>nus tree>", "sun>n"), ("sun>", "sun>"), ("sun>", "tree>")])
def test_what_prompts_begin_with_is_computed_once(load, monkeypatch, words):
    learner = load()
    asked = [learner.encode(text, chat=False, system="") for text in words]
    head = shared_head(asked)
    assert head == max(n for n in range(min(map(len, asked))) if len({prompt[:n] for prompt in asked}) == 1)
    passed, hidden = [], Parts.hidden

    def counted(self, ids, *rest):
        passed.append(ids.shape)
        return hidden(self, ids, *rest)

    monkeypatch.setattr(Parts, "hidden", counted)
    drawn = learner.generate(asked, StageSettings(samples=3, max_new_tokens=6), seed=2)
    tails = (len(asked), max(map(len, asked)) - head)
    assert passed[: 1 + bool(head)] == ([(1, head)] if head else []) + [tails]
    for prompt, row in zip(asked, drawn, strict=True):
        for one in row:
            assert one.logprobs == pytest.approx(reference(learner, prompt, one.tokens), abs=1e-5)


def test_sampling_follows_the_models_distribution(load):
    learner = load()
    [prompt] = prompts(learner, ("sun",))
    [row] = learner.generate([prompt], StageSettings(samples=256, max_new_tokens=1), seed=0)
    with torch.no_grad():
        expected = torch.softmax(learner._loaded.model(input_ids=torch.tensor([prompt])).logits[0, -1], dim=-1)
    seen = torch.bincount(torch.tensor([one.tokens[0] for one in row]), minlength=len(expected)) / len(row)
    assert (seen - expected).abs().max() < 0.1


def test_greedy_equals_transformers_generate(load):
    learner = load()
    texts = learner.greedy(prompts(learner), 8)
    for word, prompt, text in zip(WORDS, prompts(learner), texts, strict=True):
        ids = learner._loaded.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=8)
        assert text == learner.decode(ids[0, len(prompt) :].tolist()), word


def test_log_likelihood_sums_the_continuation(load):
    learner = load()
    pairs = [learner.encode_pair(f"{word}>", word[::-1]) for word in WORDS]
    for (prefix, after), value in zip(pairs, learner.log_likelihood(pairs), strict=True):
        assert value == pytest.approx(sum(reference(learner, prefix, after)), abs=1e-4)
    [(prefix, after)] = pairs[:1]
    without_prefix, empty = learner.log_likelihood([((), prefix + after), (prefix, ())])
    assert without_prefix == pytest.approx(sum(reference(learner, prefix[:1], prefix[1:] + after)), abs=1e-4)
    assert empty == 0.0


def test_what_prefixes_have_in_common_is_computed_once(load, monkeypatch):
    learner = load()
    encode = lambda words: learner.encode(words, chat=False, system="")  # noqa: E731
    prefixes = [encode(f"lamp tree moon {end}>") for end in ("sun", "ink", "dog", "dog")]
    pairs = [(prefix, encode(after)) for prefix, after in zip(prefixes, ("nus", "kni", "god", "dog"), strict=True)]
    widths, hidden = [], Parts.hidden

    def seen(self, ids, *rest):
        widths.append(ids.numel())
        return hidden(self, ids, *rest)

    monkeypatch.setattr(Parts, "hidden", seen)
    for (prefix, after), value in zip(pairs, learner.log_likelihood(pairs), strict=True):
        assert value == pytest.approx(sum(reference(learner, prefix, after)), abs=1e-4)
    assert sum(widths) < sum(len(prefix) + len(after) for prefix, after in pairs) / 2


def test_prefixes_share_where_they_lose_little_by_it():
    a, b = (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 7)
    assert shared_heads([a, b]) == [a[:4]] * 2
    assert shared_heads([a, a, a, a, b]) == [a, a, a, a, b], "one more would cost four of them two tokens each"
    assert shared_heads([(1, 2), (1, 2, 3), (4,)]) == [(1, 2), (1, 2), (4,)]
    assert shared_heads([(1, 2, 3), (1, 4, 5)]) == [(1, 2, 3), (1, 4, 5)], "less than half"
    assert shared_heads([]) == []
