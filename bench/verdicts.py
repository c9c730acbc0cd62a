"""python -m bench.verdicts: can a small base model judge answers? Written to bench/results/verdicts.md.

For each question of the recipe, one right and one wrong answer (off by 1 to 3 or by 7 to 9) are scored in several ways;
the area under the ROC curve says how often a right answer scores above a wrong one.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.machine import describe
from swarm.recipe import catalogue
from swarm.recipe.prompts import answer_prompt, statement
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task, derive_tasks
from swarm.round.stages import encode_prompt, verdicts
from swarm.training.learner import Learner
from swarm.training.obtain import obtain

RESULT = Path(__file__).parent / "results" / "verdicts.md"
Case = tuple[Task, str, bool]


def cases(recipe: Recipe, count: int, seed: int) -> list[Case]:
    """One right and one wrong answer for each of `count` questions."""
    generator = random.Random(seed)
    found: list[Case] = []
    for task in derive_tasks(recipe, seed.to_bytes(8, "big"), count):
        right = int(task.entry["answer"])
        distance = generator.randint(*generator.choice([(1, 3), (7, 9)])) * generator.choice([-1, 1])
        found += [(task, str(right), True), (task, str(right + distance), False)]
    return found


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Area under the ROC curve; ties count half."""
    right = [score for score, label in zip(scores, labels, strict=True) if label]
    wrong = [score for score, label in zip(scores, labels, strict=True) if not label]
    wins = sum((r > w) + 0.5 * (r == w) for r in right for w in wrong)
    return wins / (len(right) * len(wrong))


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.verdicts", description=__doc__)
    p.add_argument("--recipe", default="arithmetic")
    p.add_argument("--questions", type=int, default=100)
    p.add_argument("--seeds", type=int, default=3)
    options = p.parse_args()
    recipe = catalogue.find(options.recipe)
    learner = Learner.load(obtain(recipe.model.id, print), recipe.model, recipe.grpo, seed=0)
    yes_no = recipe.model_copy(
        update={
            "judge": recipe.judge.model_copy(
                update={
                    "method": "yes_no",
                    "statement": "{question}\nProposed answer: {answer}\nIs it correct? Yes or No?",
                }
            )
        }
    )

    def bare(sample: Sequence[Case]) -> list[float]:
        pairs = [learner.encode_pair(*statement(recipe, task, answer)) for task, answer, _ in sample]
        return learner.log_likelihood([((), head + tail) for head, tail in pairs])

    def only_answer(sample: Sequence[Case]) -> list[float]:
        pairs = [learner.encode_pair(" ", answer) for _, answer, _ in sample]
        contexts = [encode_prompt(learner, recipe, answer_prompt(recipe, task)) for task, _, _ in sample]
        return learner.log_likelihood([(context, tail) for context, (_, tail) in zip(contexts, pairs, strict=True)])

    methods: dict[str, Callable[[Sequence[Case]], list[float]]] = {
        "asked: is it correct, Yes or No?": lambda s: verdicts(learner, yes_no, [(t, a, None) for t, a, _ in s]),
        "likelihood of the bare statement, no context": bare,
        "likelihood of the bare answer after the question": only_answer,
        "**the recipe's verdict**: statement after the question": lambda s: verdicts(
            learner, recipe, [(t, a, None) for t, a, _ in s]
        ),
    }
    samples = [cases(recipe, options.questions, seed) for seed in range(options.seeds)]
    lines = [
        "# What a small base model knows about answers",
        "",
        f"`python -m bench.verdicts --recipe {options.recipe} --questions {options.questions} --seeds {options.seeds}`",
        "",
        describe().rstrip(),
        f"- model: {learner.name} (untrained) on {learner.device_name}",
        f"- {options.questions} questions per seed, one right and one wrong answer each; AUC over the seeds",
        "",
        "| verdict | AUC | least | most |",
        "|---|---|---|---|",
    ]
    for name, method in methods.items():
        values = [auc(method(sample), [label for _, _, label in sample]) for sample in samples]
        lines.append(f"| {name} | {statistics.mean(values):.3f} | {min(values):.3f} | {max(values):.3f} |")
        print(lines[-1], flush=True)
    RESULT.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
