"""python -m bench.judges: a real model as a judge of real answers, before and after training as a critic.

Written to bench/results/judges.md. Answers are sampled from the untrained model; their truth is the verifier's. Half of
the questions are audits, on which the calibration is fitted; all numbers are of the other half. Training as a critic is
the swarm's: critiques rewarded by how right the model judges after reading them, and by form. The judges are the model
itself and, from PyPI, Gemma 3 270M.
"""

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import gemma
from bench.machine import describe
from bench.verdicts import auc
from swarm.judging.calibration import Calibration, calibrate
from swarm.judging.scores import advantages, critique_form, is_informative, proper_score
from swarm.recipe import catalogue
from swarm.recipe.prompts import critique_prompt
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task, derive_tasks
from swarm.recipe.verifiers import extract_answer, verify
from swarm.round.stages import answer, encode_prompt, verdicts
from swarm.training.learner import Learner, TrainingGroup
from swarm.training.obtain import obtain

RESULT = Path(__file__).parent / "results" / "judges.md"
_AUDITS_WEIGH_ALIKE = 1e9


@dataclass(frozen=True)
class Answers:
    """The distinct answers to one question."""

    task: Task
    texts: list[str]
    right: list[bool]


@dataclass(frozen=True)
class Quality:
    """Of a judge, on questions that its calibration has not seen."""

    auc: float
    informedness: float
    brier: float
    bins: list[tuple[int, float, float]]
    """Calibration curve: how many, mean probability, share that is right."""


def sample(learner: Learner, recipe: Recipe, seed: bytes, questions: int) -> list[Answers]:
    """Distinct answers of the model to questions."""
    tasks = derive_tasks(recipe, seed, questions)
    found = []
    for task, completions in zip(tasks, answer(learner, recipe, tasks, seed), strict=True):
        distinct = {extract_answer(recipe.verifier, one.text): one.text for one in completions}
        texts = [text for said, text in distinct.items() if said is not None]
        found.append(Answers(task, texts, [verify(recipe, task, text) >= 0.5 for text in texts]))
    return found


def contrast(raw: Sequence[float]) -> list[float]:
    """Log-odds of each answer against the other candidates of its group: a softmax over their likelihoods."""
    if len(raw) < 2:
        return list(raw)
    logs = [-math.log1p(math.exp(-one)) if one > 0 else one - math.log1p(math.exp(one)) for one in raw]
    return [log - _log_sum_exp([other for j, other in enumerate(logs) if j != i]) for i, log in enumerate(logs)]


def quality(raw: Sequence[Sequence[float]], answers: Sequence[Answers]) -> Quality:
    """How well raw scores tell right from wrong; the first half of the questions are audits."""
    half = len(answers) // 2
    pairs = [list(zip(scores, one.right, strict=True)) for scores, one in zip(raw, answers, strict=True)]
    fitted = calibrate([pair for group in pairs[:half] for pair in group], half_life=_AUDITS_WEIGH_ALIKE)
    rest = [pair for group in pairs[half:] for pair in group]
    said = [(fitted.probability(score), right) for score, right in rest]
    return Quality(
        auc([score for score, _ in rest], [right for _, right in rest]),
        _informedness(fitted, rest),
        statistics.fmean((p - right) ** 2 for p, right in said),
        _curve(said),
    )


def read(learner: Learner, recipe: Recipe, answers: Sequence[Answers], critics: bool) -> list[list[float]]:
    """Raw verdicts by question; with `critics`, after reading a critique of the answer that the model itself wrote."""
    asked = [(one.task, text) for one in answers for text in one.texts]
    critiques: list[str | None] = [None] * len(asked)
    if critics:
        prompts = [encode_prompt(learner, recipe, critique_prompt(recipe, *pair)) for pair in asked]
        settings = recipe.stages.critique.model_copy(update={"samples": 1})
        critiques = [one.text for [one] in learner.generate(prompts, settings, seed=1)]
    raw = iter(verdicts(learner, recipe, [(*pair, text) for pair, text in zip(asked, critiques, strict=True)]))
    return [[next(raw) for _ in one.texts] for one in answers]


def train_critic(learner: Learner, recipe: Recipe, answers: Sequence[Answers], rounds: int) -> list[float]:
    """Rounds of GRPO on critiques of some of the answers; the mean reward of each round."""
    weights, settings = recipe.rewards, recipe.stages.critique
    means = []
    for number in range(rounds):
        groups, rewards = [], []
        asked = [
            (one.task, text, right)
            for one in random.Random(number).sample(answers, min(settings.items, len(answers)))
            for text, right in list(zip(one.texts, one.right, strict=True))[:2]
        ]
        prompts = [encode_prompt(learner, recipe, critique_prompt(recipe, task, text)) for task, text, _ in asked]
        for prompt, (task, text, right), found in zip(
            prompts, asked, learner.generate(prompts, settings, seed=number), strict=True
        ):
            raw = verdicts(learner, recipe, [(task, text, one.text) for one in found])
            reward = [
                weights.critique_score * proper_score(1 / (1 + math.exp(-score)), float(right))
                + weights.critique_form * critique_form(one.text, one.finished)
                for score, one in zip(raw, found, strict=True)
            ]
            rewards += reward
            if is_informative(reward):
                completions = tuple((one.tokens, one.logprobs) for one in found)
                gains = tuple(advantages(reward, scale=recipe.grpo.scale_advantages))
                groups.append(TrainingGroup(prompt, completions, gains, own=True, temperature=settings.temperature))
        learner.update(groups)
        means.append(statistics.fmean(rewards))
        print(f"critic round {number + 1}: mean reward {means[-1]:.3f}", flush=True)
    return means


def _informedness(fitted: Calibration, pairs: Sequence[tuple[float, bool]]) -> float:
    base = 1 / (1 + math.exp(-fitted.prior))
    said = {
        truth: [fitted.probability(score) > base for score, right in pairs if right == truth] for truth in (True, False)
    }
    return statistics.fmean(said[True]) - statistics.fmean(said[False])


def _curve(said: Sequence[tuple[float, bool]]) -> list[tuple[int, float, float]]:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(5)]
    for p, right in said:
        bins[min(4, int(5 * p))].append((p, right))
    return [(len(one), statistics.fmean(p for p, _ in one), statistics.fmean(r for _, r in one)) for one in bins if one]


def _log_sum_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def measure(answers: Sequence[Answers], judge: Learner, recipe: Recipe, rounds: int) -> list[str]:
    """The section of one judge."""
    ways: dict[str, Callable[[], list[list[float]]]] = {
        "statement": lambda: read(judge, recipe, answers, critics=False),
        "statement, contrasted with the other candidates": lambda: [
            contrast(group) for group in read(judge, recipe, answers, critics=False)
        ],
        "statement, after reading its own critique": lambda: read(judge, recipe, answers, critics=True),
    }
    before = {name: quality(way(), answers) for name, way in ways.items()}
    rewards = train_critic(judge, recipe, answers[: len(answers) // 2], rounds)
    after = {name: quality(way(), answers) for name, way in ways.items()}
    count, right = sum(len(one.texts) for one in answers), sum(sum(one.right) for one in answers)
    lines = [
        f"- {count} distinct answers to {len(answers)} questions, {right} of them right; calibrated on half of the "
        "questions, measured on the other half",
        f"- trained as a critic for {rounds} rounds on the answers to the first half: mean reward {rewards[0]:.2f} in "
        f"the first, {rewards[-1]:.2f} in the last; one seed",
        "",
        "| verdict | AUC before | after | J before | after | Brier before | after |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ways:
        pairs = [(getattr(before[name], what), getattr(after[name], what)) for what in ("auc", "informedness", "brier")]
        lines.append(f"| {name} | " + " | ".join(f"{one:.3f} | {two:.3f}" for one, two in pairs) + " |")
    lines += [
        "",
        "Calibration curve of the statement:",
        "",
        "| | answers | mean probability | share right |",
        "|---|---|---|---|",
    ]
    for when, found in (("before", before), ("after", after)):
        lines += [f"| {when} | {n} | {p:.2f} | {share:.2f} |" for n, p, share in found["statement"].bins]
    return [*lines, ""]


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.judges", description=__doc__)
    p.add_argument("--recipe", default="arithmetic")
    p.add_argument("--judges", nargs="+", default=["own", gemma.NAME], choices=["own", gemma.NAME])
    p.add_argument("--questions", type=int, default=100)
    p.add_argument("--rounds", type=int, default=10, help="of training as a critic")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default=None)
    p.add_argument("--out", type=Path, default=RESULT)
    options = p.parse_args()
    recipe = catalogue.find(options.recipe)

    def load(folder: Path) -> Learner:
        return Learner.load(folder, recipe.model, recipe.grpo, seed=options.seed, device=options.device)

    author = load(obtain(recipe.model.id, print))
    answers = sample(author, recipe, f"judges {options.seed}".encode(), options.questions)
    plain = recipe.model_copy(update={"prompts": recipe.prompts.model_copy(update={"chat": False})})
    lines = [
        "# Real judges",
        "",
        f"`python -m bench.judges --recipe {options.recipe} --judges {' '.join(options.judges)} "
        f"--questions {options.questions} --rounds {options.rounds} --seed {options.seed}`",
        "",
        describe().rstrip(),
        f"- answers: sampled from {author.name}, untrained, on {author.device_name}",
        "",
    ]
    for name in options.judges:
        if name == "own":
            lines += ["## Judged by the same model", "", *measure(answers, author, recipe, options.rounds)]
        else:
            lines += ["## Judged by Gemma 3 270M, a base model: without chat template", ""]
            lines += measure(answers, load(gemma.obtain()), plain, options.rounds)
        options.out.write_text("\n".join(lines))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
