"""The tiny model: the same wherever it is built on this machine, partly able, and it learns."""

import json
import random
import re
from pathlib import Path

import reasoning_gym
import yaml

from swarm.recipe.schema import Recipe, StageSettings
from swarm.training import tiny
from swarm.training.learner import Learner, TrainingGroup

RECIPE = Recipe.model_validate_json(
    json.dumps(yaml.safe_load((Path(__file__).parents[2] / "recipes" / "tiny.yaml").read_text()))
)


def words(count: int, seed: int) -> list[str]:
    source = RECIPE.tasks.sources[0]
    tasks = reasoning_gym.create_dataset(source.dataset, seed=seed, size=count, **source.config)
    return [re.search(RECIPE.tasks.subject, task["question"]).group(1) for task in tasks]


def test_it_builds_the_same_bytes_twice(tiny_directory, tmp_path):
    tiny.build(tmp_path, lambda line: None)
    names = ("model.safetensors", "tokenizer.json", "config.json")
    assert all((tmp_path / name).read_bytes() == (tiny_directory / name).read_bytes() for name in names)


def test_every_character_of_its_tasks_is_in_its_vocabulary(load):
    learner = load()
    for word in words(500, seed=1):
        ids = learner.encode(f"{word}={word[::-1]}:no {word[::-1]}>", chat=False, system="")
        assert learner._loaded.tokenizer.unk_token_id not in ids
    assert learner._loaded.tokenizer.eos_token_id != learner._loaded.tokenizer.pad_token_id


def test_it_is_partly_able_in_all_three_stages(load):
    learner = load()
    subjects = words(64, seed=2)
    wrong = [tiny._wrong(word[::-1], random.Random(3)) for word in subjects]
    stages = {
        "answer": [(f"{word}>", word[::-1]) for word in subjects],
        "critique": [(f"{word}={bad}?", f"no {word[::-1]}") for word, bad in zip(subjects, wrong, strict=True)],
        "revise": [(f"{word}={bad}:no {word[::-1]}>", word[::-1]) for word, bad in zip(subjects, wrong, strict=True)],
    }
    settings = StageSettings(samples=4, max_new_tokens=12)
    for stage, cases in stages.items():
        drawn = learner.generate([learner.encode(p, chat=False, system="") for p, _ in cases], settings, seed=0)
        right = [one.text == truth for row, (_, truth) in zip(drawn, cases, strict=True) for one in row]
        assert 0.02 < sum(right) / len(right) < 0.6, stage


def test_it_learns_within_thirty_updates(tiny_directory):
    learner = Learner.load(tiny_directory, RECIPE.model, RECIPE.grpo, seed=0, device="cpu", threads=1)
    rewards = []
    for step in range(30):
        subjects = words(8, seed=1000 * (step + 1))
        prompts = [learner.encode(f"{word}>", chat=False, system="") for word in subjects]
        drawn = learner.generate(prompts, RECIPE.stages.answer, seed=step)
        groups = []
        for word, prompt, row in zip(subjects, prompts, drawn, strict=True):
            scores = [float(one.text == word[::-1]) for one in row]
            mean = sum(scores) / len(scores)
            deviation = (sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) ** 0.5
            advantages = tuple((score - mean) / (deviation + 1e-4) for score in scores)
            completions = tuple((one.tokens, one.logprobs) for one in row)
            groups.append(TrainingGroup(prompt, completions, advantages, own=True, temperature=1.0))
            rewards.append(mean)
        assert learner.update(groups).skipped is None
    early, late = sum(rewards[:40]) / 40, sum(rewards[-40:]) / 40
    assert late > early + 0.1, (early, late)
