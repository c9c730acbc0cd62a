"""Code that checks an answer. Whatever a completion holds, checking it neither raises nor hangs."""

import logging
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from swarm.recipe.schema import GymSource, Recipe, Verifier
from swarm.recipe.tasks import Task, gym_dataset

logger = logging.getLogger(__name__)

MAX_ANSWER_CHARS = 4_000
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


def extract_answer(verifier: Verifier | None, completion: str) -> str | None:
    """What of a completion counts as its answer, stripped; None where it holds none."""
    text = completion[:MAX_ANSWER_CHARS]
    match verifier.extract if verifier else "whole":
        case "last_number":
            numbers = _NUMBER.findall(text)
            return numbers[-1].replace(",", "") if numbers else None
        case "first_line":
            return next((line.strip() for line in text.splitlines() if line.strip()), None)
        case "regex":
            assert verifier is not None and verifier.pattern is not None
            found = re.search(verifier.pattern, text)
            return found.group(1).strip() if found and found.group(1) is not None else None
        case _:
            return text.strip() or None


def has_truth(recipe: Recipe, task: Task) -> bool:
    """Whether code can check answers to this task; elsewhere the jury decides."""
    return recipe.verifier is not None and task.entry.get("answer") is not None


def verify(recipe: Recipe, task: Task, completion: str) -> float:
    """Reward of a completion in [0, 1]: 0 below the recipe's threshold. Only for tasks that have a truth."""
    if recipe.verifier is None or not has_truth(recipe, task):
        raise ValueError("this task has no verifier")
    answer = extract_answer(recipe.verifier, completion)
    if answer is None:
        return 0.0
    score = _score(recipe, task, answer)
    return score if score >= recipe.verifier.threshold else 0.0


def _score(recipe: Recipe, task: Task, answer: str) -> float:
    truth = str(task.entry["answer"])
    assert recipe.verifier is not None
    match recipe.verifier.score:
        case "numeric":
            return float(_same_number(answer, truth))
        case "gym":
            source = recipe.tasks.sources[task.source]
            if isinstance(source, GymSource):
                return _gym_score(source, answer, task.entry)
    return float(answer == truth.strip())


def _same_number(answer: str, truth: str) -> bool:
    try:
        return Decimal(answer) == Decimal(truth.replace(",", "").strip())
    except InvalidOperation:
        return False


def _gym_score(source: GymSource, answer: str, entry: dict[str, Any]) -> float:
    try:
        score = float(gym_dataset(source).score_answer(answer, entry))
    except Exception as error:  # noqa: BLE001 - some datasets' scorers raise on free text: that text is not an answer
        logger.debug("the scorer of %s raised on %r: %s", source.dataset, answer[:80], error)
        return 0.0
    return min(max(score, 0.0), 1.0) if math.isfinite(score) else 0.0
