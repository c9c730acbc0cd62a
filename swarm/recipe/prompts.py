"""The prompts of the three stages.

Text of a peer goes into a prompt as one quoted line: shortened, without control characters, line breaks or the
quotation marks that fence it, so that no answer can pose as another's, as a critique or as a verdict.
"""

import re
import unicodedata
from collections.abc import Sequence

from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task

MAX_QUOTED_CHARS = 400
_FENCES = str.maketrans({'"': "'", "“": "'", "”": "'", "«": "'", "»": "'"})


def quote(text: str) -> str:
    """Foreign text made safe for a prompt: one line, printable, without double quotation marks, bounded."""
    spaced = re.sub(r"\s+", " ", text)
    printable = "".join(char for char in spaced if unicodedata.category(char)[0] not in "CZ" or char == " ")
    return printable.translate(_FENCES).strip()[:MAX_QUOTED_CHARS]


def subject_of(recipe: Recipe, question: str) -> str:
    """What the recipe's `tasks.subject` picks out of a question; the whole question where it picks nothing."""
    found = re.search(recipe.tasks.subject, question) if recipe.tasks.subject else None
    return found.group(1) if found and found.group(1) is not None else question


def answer_prompt(recipe: Recipe, task: Task) -> str:
    return _fill(recipe, recipe.prompts.answer, task)


def critique_prompt(recipe: Recipe, task: Task, answer: str) -> str:
    """Asks for a critique of one answer; the answer is quoted here."""
    return _fill(recipe, recipe.prompts.critique, task, answer=quote(answer))


def revise_prompt(recipe: Recipe, task: Task, answer: str, critiques: Sequence[str]) -> str:
    """Asks for a better answer; answer and critiques are quoted here."""
    quoted = [quote(critique) for critique in critiques]
    joined = "\n".join(f'- "{text}"' for text in quoted) if recipe.prompts.chat else " ".join(quoted)
    return _fill(recipe, recipe.prompts.revise, task, answer=quote(answer), critiques=joined)


def reading_prompt(recipe: Recipe, task: Task, answer: str, critique: str) -> str:
    """Under which an answer is judged after reading a critique of it; both are quoted here."""
    return _fill(recipe, recipe.judge.reading, task, answer=quote(answer), critique=quote(critique))


def statement(recipe: Recipe, task: Task, answer: str) -> tuple[str, str]:
    """The judge's statement with `answer` in it, as (what stands before the answer, the answer and what follows).

    The judge scores the likelihood of the whole: prefix and continuation are given apart because candidates for one
    task share the prefix.
    """
    before, after = _fill_plain(recipe, recipe.judge.statement, task).split("{answer}", 1)
    return before, quote(answer) + after.replace("{answer}", quote(answer))


def _fill_plain(recipe: Recipe, template: str, task: Task) -> str:
    return _replace(template, {"question": task.question, "subject": subject_of(recipe, task.question)})


def _fill(recipe: Recipe, template: str, task: Task, **values: str) -> str:
    return _replace(template, {"question": task.question, "subject": subject_of(recipe, task.question), **values})


def _replace(template: str, values: dict[str, str]) -> str:
    """One pass, so that braces inside a value stay text."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match.group(1), match.group(0)), template)
