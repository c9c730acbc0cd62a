"""The work of the three stages on one peer's model: sampling answers, critiques with verdicts, and revisions."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarm.recipe.prompts import answer_prompt, critique_prompt, reading_prompt, revise_prompt, statement
from swarm.recipe.schema import Recipe, Stage
from swarm.recipe.tasks import Task
from swarm.recipe.verifiers import extract_answer
from swarm.round.assignment import Item, draw
from swarm.training.learner import Completion, Learner

MAX_RAW = 20.0


@dataclass(frozen=True)
class CritiqueWork:
    """What a judge made of one item."""

    item: Item
    verdicts: list[float]
    """Log-odds that each of the author's answers is right."""
    completions: list[Completion]


def answer(learner: Learner, recipe: Recipe, tasks: Sequence[Task], seed: bytes) -> list[list[Completion]]:
    """G completions for each task."""
    prompts = [encode_prompt(learner, recipe, answer_prompt(recipe, task)) for task in tasks]
    return learner.generate(prompts, recipe.stages.answer, seed=sampling_seed(seed, "answer"))


def critique(
    learner: Learner, recipe: Recipe, items: Mapping[Item, tuple[Task, Sequence[str]]], seed: bytes
) -> list[CritiqueWork]:
    """Critiques and verdicts.

    Args:
        items: for each item to judge, its task and all answers of its author to that task; `item.sample` is the one
            that the critique is about.
    """
    if not items:
        return []
    prompts = [
        encode_prompt(learner, recipe, critique_prompt(recipe, task, answers[item.sample]))
        for item, (task, answers) in items.items()
    ]
    texts = learner.generate(prompts, recipe.stages.critique, seed=sampling_seed(seed, "critique"))
    asked = [(task, text, None) for task, answers in items.values() for text in answers]
    raw = iter(verdicts(learner, recipe, asked))
    return [
        CritiqueWork(item, [next(raw) for _ in answers], completions)
        for (item, (_, answers)), completions in zip(items.items(), texts, strict=True)
    ]


def revise(
    learner: Learner, recipe: Recipe, work: Sequence[tuple[Task, str, Sequence[str]]], seed: bytes
) -> list[list[Completion]]:
    """Revisions; each piece of work is a task, the own answer, and its critiques."""
    if not work:
        return []
    prompts = [encode_prompt(learner, recipe, revise_prompt(recipe, *piece)) for piece in work]
    return learner.generate(prompts, recipe.stages.revise, seed=sampling_seed(seed, "revise"))


def verdicts(learner: Learner, recipe: Recipe, asked: Sequence[tuple[Task, str, str | None]]) -> list[float]:
    """Raw verdicts, by the recipe's method.

    Args:
        asked: (task, answer text, a critique that the judge has read before, or None).

    Returns:
        Log-odds that each answer is right, in the judge's own scale, within +-20; of the method `text` 1, 0 or -1. An
        answer of which the verifier's extraction finds nothing gets the lowest.
    """
    scores = [-MAX_RAW] * len(asked)
    if recipe.judge.method == "text":
        return _written(learner, recipe, scores, asked)
    pairs: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for index, (task, text, critique_text) in enumerate(asked):
        if extract_answer(recipe.verifier, text) is None:
            continue
        for pair in _pairs(learner, recipe, task, text, critique_text):
            pairs.setdefault(pair, []).append(index)
    values = dict(zip(pairs, learner.log_likelihood(list(pairs)), strict=True))
    if recipe.judge.method == "yes_no":
        return _yes_no(learner, scores, pairs, values)
    for pair, indices in pairs.items():
        for index in indices:
            scores[index] = _log_odds(values[pair])
    return scores


def sampling_seed(seed: bytes, stage: Stage) -> int:
    """Of the noise with which a peer samples in a stage; `seed` is that of the round with the peer's id after it.

    A record's groups stand in the order in which they were asked for, so anyone can compute the noise of each token.
    """
    return draw(seed, stage) >> 1


def encode_prompt(learner: Learner, recipe: Recipe, prompt: str) -> tuple[int, ...]:
    return learner.encode(prompt, chat=recipe.prompts.chat, system=recipe.prompts.system)


def _pairs(
    learner: Learner, recipe: Recipe, task: Task, answer_text: str, critique_text: str | None
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    if recipe.judge.method == "yes_no":
        question = _question(learner, recipe, task, answer_text, critique_text)
        return [(question, learner.encode_words(word)) for word in ("Yes", "No")]
    before, after = statement(recipe, task, extract_answer(recipe.verifier, answer_text) or "")
    # The statement stands where the model's own answer would stand: without that context a small model's likelihoods
    # say little (bench/results/verdicts.md).
    if critique_text is None:
        prompt = answer_prompt(recipe, task)
    else:
        prompt = reading_prompt(recipe, task, answer_text, critique_text)
    head, tail = learner.encode_pair(before, after)
    return [(encode_prompt(learner, recipe, prompt) + head, tail)]


def _question(
    learner: Learner, recipe: Recipe, task: Task, answer_text: str, critique_text: str | None
) -> tuple[int, ...]:
    """The statement as a prompt to which the model says Yes or No, after the critique that it has read before."""
    asked = "".join(statement(recipe, task, extract_answer(recipe.verifier, answer_text) or ""))
    if critique_text is not None:
        asked = f"{reading_prompt(recipe, task, answer_text, critique_text)}\n{asked}"
    return encode_prompt(learner, recipe, asked)


def _written(
    learner: Learner, recipe: Recipe, scores: list[float], asked: Sequence[tuple[Task, str, str | None]]
) -> list[float]:
    prompts: dict[tuple[int, ...], list[int]] = {}
    for index, (task, text, critique_text) in enumerate(asked):
        if extract_answer(recipe.verifier, text) is not None:
            prompts.setdefault(_question(learner, recipe, task, text, critique_text), []).append(index)
    texts = learner.greedy(list(prompts), recipe.stages.critique.max_new_tokens) if prompts else []
    for text, indices in zip(texts, prompts.values(), strict=True):
        for index in indices:
            scores[index] = last_yes_or_no(text)
    return scores


def last_yes_or_no(text: str) -> float:
    """1 where the last Yes or No among the words of a text is Yes, -1 where it is No, 0 without either."""
    said = re.findall(r"\b(yes|no)\b", text.lower())
    return 0.0 if not said else 1.0 if said[-1] == "yes" else -1.0


def _yes_no(
    learner: Learner,
    scores: list[float],
    pairs: Mapping[tuple[tuple[int, ...], tuple[int, ...]], list[int]],
    values: Mapping[tuple[tuple[int, ...], tuple[int, ...]], float],
) -> list[float]:
    yes, no = (learner.encode_words(word) for word in ("Yes", "No"))
    for (question, word), indices in pairs.items():
        if word == yes:
            odds = values[question, yes] - values[question, no]
            for index in indices:
                scores[index] = min(max(odds, -MAX_RAW), MAX_RAW)
    return scores


def _log_odds(log_probability: float) -> float:
    """log(p / (1 - p)) from log p, within +-MAX_RAW."""
    bounded = min(log_probability, -1e-9)
    return min(max(bounded - math.log(-math.expm1(bounded)), -MAX_RAW), MAX_RAW)
