"""python -m bench.peer_reward: can peers be the reward? Written to bench/results/peer-reward.md.

Three peers with a model of their own each answer, judge each other and train on the arithmetic recipe, in one process
but with the code of the swarm: tasks, sampling, verdicts, audits, calibration, jury, GRPO. The arms differ only in the
reward of an answer:

- verifier: code checks it.
- jury: the calibrated vote of the two other peers. The verifier opens the audits, a fifth of the judged items, and only
  the calibration sees them; no answer is ever rewarded by it, and before judges are proven nobody is rewarded at all.
- majority: 1 for the commonest answer of the group.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.jobs import finish, rows_of
from bench.machine import describe
from swarm.judging.calibration import calibrate
from swarm.judging.jury import decide, vote_of
from swarm.judging.scores import advantages, is_informative
from swarm.recipe import catalogue
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import Recipe
from swarm.recipe.tasks import Task, heldout_tasks, own_tasks, shared_tasks
from swarm.recipe.verifiers import extract_answer, verify
from swarm.round.assignment import draw
from swarm.round.stages import answer, encode_prompt, verdicts
from swarm.training.learner import Completion, Learner, TrainingGroup
from swarm.training.obtain import obtain

RESULTS = Path(__file__).parent / "results"
RESULT = RESULTS / "peer-reward.md"
LINES = RESULTS / "peer-reward.jsonl"
ARMS = ("verifier", "jury", "majority")
AUDIT_SHARE = 0.2
"""Of the judged groups, never more are opened."""
HELDOUT = 64
Row = dict[str, Any]
Work = list[tuple[Task, list[Completion]]]
Audits = dict[int, list[tuple[float, bool]]]


def train(case: tuple[str, int], peers: int, rounds: int, every: int, device: str | None, threads: int) -> Row:
    """One swarm with one reward; held-out accuracy is the mean over the peers."""
    arm, seed = case
    started = time.monotonic()
    recipe = catalogue.find("arithmetic")
    recipe = recipe.model_copy(update={"heldout": recipe.heldout.model_copy(update={"count": HELDOUT})})
    model = obtain(recipe.model.id, lambda line: None)
    learners = [
        Learner.load(model, recipe.model, recipe.grpo, seed=100 * seed + peer, device=device, threads=threads)
        for peer in range(peers)
    ]
    audits: Audits = defaultdict(list)
    curve = [(0, _mean([heldout(learner, recipe) for learner in learners]))]
    rewarded: list[tuple[float, float]] = []
    opened = judged = 0
    for number in range(1, rounds + 1):
        round_seed = f"peer reward {seed} {number}".encode()
        work = [_answers(learner, recipe, round_seed, peer) for peer, learner in enumerate(learners)]
        rewards = [[_rewards(arm, recipe, task, completions) for task, completions in own] for own in work]
        if arm == "jury":
            raw = [_verdicts(learners, recipe, own, author) for author, own in enumerate(work)]
            rewards = [_jury(raw[author], audits) for author in range(peers)]
            judged += sum(map(len, work))
            opened += _open(recipe, round_seed, math.floor(AUDIT_SHARE * judged) - opened, work, raw, audits)
        for own, of_peer in zip(work, rewards, strict=True):
            for (task, completions), group in zip(own, of_peer, strict=True):
                truths = [verify(recipe, task, completion.text) for completion in completions]
                rewarded += zip(group, truths, strict=True) if group else []
        for learner, own, of_peer in zip(learners, work, rewards, strict=True):
            _update(learner, recipe, own, of_peer)
        if number % every == 0 or number == rounds:
            curve.append((number, _mean([heldout(learner, recipe) for learner in learners])))
            print(f"{arm} seed {seed} round {number}: held-out {curve[-1][1]:.3f}", flush=True)
    return {
        "arm": arm,
        "seed": seed,
        "peers": peers,
        "rounds": rounds,
        "heldout": curve,
        "reward_accuracy": _mean([float((reward > 0.5) == (truth > 0.5)) for reward, truth in rewarded]),
        "audit_share": opened / judged if judged else 0.0,
        "informedness": _mean([calibrate(found).informedness for found in audits.values()]),
        "device": learners[0].device_name,
        "seconds": round(time.monotonic() - started),
    }


def heldout(learner: Learner, recipe: Recipe) -> float:
    """Greedy accuracy on questions that no round trains on."""
    tasks = heldout_tasks(recipe)
    prompts = [encode_prompt(learner, recipe, answer_prompt(recipe, task)) for task in tasks]
    texts = learner.greedy(prompts, recipe.stages.answer.max_new_tokens)
    return _mean([verify(recipe, task, text) for task, text in zip(tasks, texts, strict=True)])


def _answers(learner: Learner, recipe: Recipe, seed: bytes, peer: int) -> Work:
    tasks = [*shared_tasks(recipe, seed), *own_tasks(recipe, seed, str(peer))]
    return list(zip(tasks, answer(learner, recipe, tasks, seed + bytes([peer])), strict=True))


def _rewards(arm: str, recipe: Recipe, task: Task, completions: Sequence[Completion]) -> list[float]:
    texts = [completion.text for completion in completions]
    if arm == "verifier":
        return [verify(recipe, task, text) for text in texts]
    said = [extract_answer(recipe.verifier, text) for text in texts]
    commonest = Counter(one for one in said if one is not None).most_common(1)
    return [float(bool(commonest) and one == commonest[0][0]) for one in said]


def _verdicts(learners: Sequence[Learner], recipe: Recipe, own: Work, author: int) -> dict[int, list[list[float]]]:
    """For each judge, its raw verdicts by group."""
    asked = [(task, completion.text, None) for task, completions in own for completion in completions]
    found = {}
    for judge, learner in enumerate(learners):
        if judge != author:
            raw = iter(verdicts(learner, recipe, asked))
            found[judge] = [[round(next(raw), 4) for _ in completions] for _, completions in own]
    return found


def _jury(raw: Mapping[int, list[list[float]]], audits: Audits) -> list[list[float]]:
    """Rewards of one author's groups; none for a group that nobody proven has judged."""
    judges = {judge: calibrate(audits[judge]) for judge in raw}
    groups = []
    for index in range(len(next(iter(raw.values())))):
        columns = zip(*(raw[judge][index] for judge in raw), strict=True)
        found = [
            decide([vote_of(judges[judge], value) for judge, value in zip(raw, column, strict=True)]).probability
            for column in columns
        ]
        groups.append([reward for reward in found if reward is not None])
    return groups


def _open(
    recipe: Recipe,
    seed: bytes,
    most: int,
    work: Sequence[Work],
    raw: Sequence[Mapping[int, list[list[float]]]],
    audits: Audits,
) -> int:
    """Open `most` groups of a round, drawn by its seed, whose verdicts are in; how many that were."""
    items = [(author, index) for author, own in enumerate(work) for index in range(len(own))]
    opened = sorted(items, key=lambda item: draw(seed, "audit", *item))[:most]
    for author, index in sorted(opened):
        task, completions = work[author][index]
        distinct = {extract_answer(recipe.verifier, one.text): place for place, one in enumerate(completions)}
        for place in distinct.values():
            right = verify(recipe, task, completions[place].text) >= 0.5
            for judge, values in raw[author].items():
                audits[judge].append((values[index][place], right))
    return len(opened)


def _update(learner: Learner, recipe: Recipe, own: Work, rewards: Sequence[Sequence[float]]) -> None:
    learner.update(
        [
            TrainingGroup(
                prompt=encode_prompt(learner, recipe, answer_prompt(recipe, task)),
                completions=tuple((one.tokens, one.logprobs) for one in completions),
                advantages=tuple(advantages(group, scale=recipe.grpo.scale_advantages)),
                own=True,
                temperature=recipe.stages.answer.temperature,
            )
            for (task, completions), group in zip(own, rewards, strict=True)
            if is_informative(group)
        ]
    )


def report(rows: Sequence[Row], command: str) -> str:
    """All runs as Markdown."""
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in ARMS}
    first = rows[0]
    lines = [
        "# Peers as the reward",
        "",
        f"`{command}`",
        "",
        describe().rstrip(),
        f"- {first['peers']} peers of SmolLM2-135M-Instruct (LoRA) on {first['device']}, {first['rounds']} rounds of "
        f"4 questions x 8 answers per peer; held-out: {HELDOUT} questions, greedy, mean over the peers",
        "- jury: the two other peers judge by the likelihood of the statement under their present weights; the "
        "verifier opens the audits and rewards nothing",
        "",
        "| reward | seed | held-out before | after | gain | rewards that are right | audits | informedness | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        for row in sorted(by_arm[arm], key=lambda row: row["seed"]):
            gain = _gain(row)
            audited = f"{row['audit_share']:.0%} | {row['informedness']:.2f}" if arm == "jury" else "- | -"
            lines.append(
                f"| {arm} | {row['seed']} | {row['heldout'][0][1]:.3f} | {row['heldout'][-1][1]:.3f} | {gain:+.3f} "
                f"| {row['reward_accuracy']:.3f} | {audited} | {row['seconds']} |"
            )
    if by_arm["verifier"]:
        whole = _mean([_gain(row) for row in by_arm["verifier"]])
        shares = {arm: _mean([_gain(row) for row in by_arm[arm]]) / whole for arm in ARMS[1:] if by_arm[arm]}
        said = ", ".join(f"{arm} {share:.0%}" for arm, share in shares.items())
        lines += ["", f"Share of the verifier's mean gain ({whole:+.3f}): {said}. The goal for the jury is 90%."]
    marks = [number for number, _ in first["heldout"]]
    lines += ["", f"| held-out by round | {' | '.join(map(str, marks))} |", "|---" * (len(marks) + 1) + "|"]
    for arm, found in by_arm.items():
        values = [f"{_mean([row['heldout'][place][1] for row in found]):.3f}" for place in range(len(marks)) if found]
        lines.append(f"| {arm} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _gain(row: Row) -> float:
    return row["heldout"][-1][1] - row["heldout"][0][1]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.peer_reward", description="Can peers be the reward?")
    p.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS)
    p.add_argument("--peers", type=int, default=3)
    p.add_argument("--rounds", type=int, default=30)
    p.add_argument("--every", type=int, default=5, help="rounds between two held-out measurements")
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--device", default=None)
    p.add_argument("--jobs", type=int, default=1, help="swarms at once")
    p.add_argument("--minutes", type=float, default=600.0, help="begin no swarm later than this")
    p.add_argument("--lines", type=Path, default=LINES, help="finished swarms, one JSON object a line")
    p.add_argument("--out", type=Path, default=RESULT)
    options = p.parse_args()
    wanted = [(arm, seed) for seed in range(options.seeds) for arm in options.arms]
    settings = {"peers": options.peers, "rounds": options.rounds}

    def finished() -> list[Row]:
        rows = rows_of(options.lines)
        return [row for row in rows if (row["arm"], row["seed"]) in wanted and settings.items() <= row.items()]

    done = {(row["arm"], row["seed"]) for row in finished()}
    todo = [case for case in wanted if case not in done]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    work = partial(train, **settings, every=options.every, device=options.device, threads=threads)
    finish(todo, work, options.lines, jobs=options.jobs, minutes=options.minutes)
    rows = finished()
    if not rows:
        return 1
    device = f" --device {options.device}" if options.device else ""
    options.out.write_text(
        report(rows, f"python -m bench.peer_reward --rounds {options.rounds} --seeds {options.seeds}{device}")
    )
    print(f"{len(rows)} of {len(wanted)} swarms; written to {options.out}")
    return 0 if len(rows) == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
