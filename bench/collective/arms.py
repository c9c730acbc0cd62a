"""The ways of learning that are compared, and in which order they are run."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from swarm.recipe.schema import LearnFrom, MergeRule
from swarm.training.loss import FETCHED_RATIO_CAP


@dataclass(frozen=True)
class Arm:
    """One way for N peers to learn. Shares are parts of the groups that a peer alone samples in a round."""

    about: str
    own: float = 1.0
    """Sampled by each peer itself. With less than 1 there are more rounds, so that local generation is equal."""
    fetched: float = 0.0
    """Of other peers, in each update."""
    learn_from: LearnFrom = "all"
    """What of these: see `swarm.recipe.schema.Sharing`."""
    rule: MergeRule = "none"
    every: int = 1
    """Rounds between two merges."""
    fetch_peers: int = 64
    """Peers whose weights each of them merges, at most."""
    steps: int | Literal["per_peer"] = 1
    """Of an update; per_peer: see `swarm.recipe.schema.Merging`."""
    rise: float = math.inf
    """By how many times the recipe's rate, that of a peer alone, the rate rises with each update, up to the job's."""
    practice: int = 0
    """How many times its own groups the first peer samples besides, for its update only."""
    product: bool = False
    """LoRA's factors are merged by their product, which is then factored again."""
    moments: str = "own"
    """The optimiser's state after a merge: own, zero, or the mean over the merged peers."""
    validation: int = 0
    """Questions that decide whether a merge is kept."""
    filtered: bool = True
    """Groups without spread are left out; else they count in the denominator of the loss."""
    fetched_ratio_cap: float = FETCHED_RATIO_CAP
    """Of the loss."""
    poison: str | None = None
    """What the last peer sends in place of its weights."""
    poison_groups: Literal["lies", "padded"] = "lies"
    """What it sends in place of its groups: lies about log-probabilities, or see `bench.collective.poison.padded`."""
    author_share: float = 1.0
    """Of the fetched groups in an update, one author's at most."""
    stages: bool = False
    """Whole rounds of the recipe, with as many answers as that asks for; critiques and revisions are trained on, too,
    and groups chosen as in a swarm."""
    tasks: str = "same"
    """own: each peer practises one of the recipe's sources; held-out questions are from all."""
    models: int = 1
    """Different starting models among the peers."""

    @property
    def solo(self) -> tuple[str, int]:
        """The arm, and its number of peers, that has the same tasks, models and practice and shares nothing."""
        if self.practice:
            return "alone, practice", 1
        if self.tasks == "own":
            return "alone, own tasks", 2
        return ("alone, two models", 2) if self.models > 1 else ("alone", 1)


ARMS = {
    "alone": Arm("alone, groups without spread left out"),
    "alone, unfiltered": Arm("alone, groups without spread in the denominator", filtered=False),
    "6/2": Arm("a quarter of the own groups replaced by fetched ones", own=0.75, fetched=0.25),
    "4/4": Arm("half of the own groups replaced", own=0.5, fetched=0.5),
    "2/6": Arm("three quarters replaced", own=0.25, fetched=0.75),
    "added": Arm("as many fetched groups beside the own ones", fetched=1.0),
    "mean": Arm("weights merged every round by their mean", rule="mean"),
    "median": Arm("by the median of each coordinate", rule="median"),
    "trimmed": Arm("by the trimmed mean of each coordinate", rule="trimmed_mean"),
    "reward": Arm("by the mean weighted with rewards", rule="reward_weighted"),
    "product": Arm("by the mean of LoRA's products, factored again", rule="mean", product=True),
    "mean/2": Arm("by their mean every 2 rounds", rule="mean", every=2),
    "mean/5": Arm("by their mean every 5 rounds", rule="mean", every=5),
    "mean of 4": Arm("by the mean with three others, drawn for each peer and round", rule="mean", fetch_peers=3),
    "trimmed of 4": Arm("by the trimmed mean with three others, drawn", rule="trimmed_mean", fetch_peers=3),
    "zero moments": Arm("mean, and the optimiser forgets", rule="mean", moments="zero"),
    "mean moments": Arm("mean, of the optimiser's moments too", rule="mean", moments="mean"),
    "trimmed, checked": Arm("trimmed mean, kept if 32 fresh answers do not fall", rule="trimmed_mean", validation=32),
    "both": Arm("mean, and as many fetched groups as own", fetched=1.0, rule="mean"),
    "both, half": Arm("mean, and half as many fetched groups as own", fetched=0.5, rule="mean"),
    "both, trimmed": Arm("trimmed mean, and as many fetched groups as own", fetched=1.0, rule="trimmed_mean"),
    "mean, rising": Arm("mean, the rate rises by half of the recipe's with each update", rule="mean", rise=0.5),
    "mean, stages": Arm(
        "mean, whole rounds of the recipe, each on its own groups of all stages", rule="mean", stages=True
    ),
    "mean, stages, rising": Arm(
        "mean, whole rounds, own groups of all stages, the rate rises by half of the recipe's with each update",
        rule="mean",
        stages=True,
        rise=0.5,
    ),
    "both, trimmed, stages": Arm(
        "trimmed mean with three others, drawn; whole rounds, own groups and winners of fetched ones of all stages: a "
        "recipe's default",
        fetched=1.0,
        learn_from="winners",
        rule="trimmed_mean",
        fetch_peers=3,
        stages=True,
    ),
    "both, trimmed, stages, all": Arm(
        "trimmed mean with three others, drawn; whole rounds, own and whole fetched groups of all stages",
        fetched=1.0,
        rule="trimmed_mean",
        fetch_peers=3,
        stages=True,
    ),
    "mean, steps": Arm("mean, an update in as many steps as peers", rule="mean", steps="per_peer"),
    "both, steps": Arm("both, an update in as many steps as peers", fetched=1.0, rule="mean", steps="per_peer"),
    "trimmed, steps": Arm("trimmed mean, in as many steps as peers", rule="trimmed_mean", steps="per_peer"),
    "trimmed, steps, negated": Arm(
        "the same, one peer sends negated weights", rule="trimmed_mean", steps="per_peer", poison="negated"
    ),
    "alone, steps": Arm("alone, an update in four steps", steps=4),
    "alone, practice": Arm("alone, four times the groups in each round", practice=3),
    "mean, practice": Arm("mean, the first peer samples four times its groups", rule="mean", practice=3),
    "trimmed, practice": Arm(
        "trimmed mean, the first peer samples four times its groups", rule="trimmed_mean", practice=3
    ),
    "alone, own tasks": Arm("alone, each peer on one kind of task", tasks="own"),
    "mean, own tasks": Arm("mean, each peer on one kind of task", rule="mean", tasks="own"),
    "added, own tasks": Arm("fetched groups beside own, each peer on one kind of task", fetched=1.0, tasks="own"),
    "added, two models": Arm("fetched groups beside own, two starting models", fetched=1.0, models=2),
    "alone, two models": Arm("alone, two starting models", models=2),
}
POISONS = ("negated", "random", "huge", "nan")
for _kind in POISONS:
    ARMS[f"trimmed, {_kind}"] = Arm(f"trimmed mean, one peer sends {_kind} weights", rule="trimmed_mean", poison=_kind)
    ARMS[f"mean, {_kind}"] = Arm(f"mean, one peer sends {_kind} weights", rule="mean", poison=_kind)
ARMS["added, lies"] = Arm("fetched groups, one peer's log-probabilities are noise", fetched=1.0, poison="random")
ARMS["both, trimmed, negated"] = Arm(
    "trimmed mean and fetched groups, one peer sends negated weights and noise for log-probabilities",
    fetched=1.0,
    rule="trimmed_mean",
    poison="negated",
)
ARMS["both, trimmed, negated, padded"] = replace(
    ARMS["both, trimmed, negated"],
    about="trimmed mean and fetched groups, no more than half of them of one author; one peer sends negated weights, "
    "and groups in which who is right says zeros first, and who is wrong does not",
    poison_groups="padded",
    author_share=0.5,
)
for _name in ("added, lies", "both, trimmed, negated"):
    ARMS[f"{_name}, cap 10"] = replace(
        ARMS[_name], about=f"{_name}, with fetched tokens up to a probability ratio of 10", fetched_ratio_cap=10.0
    )
for _name in (
    "added",
    "both",
    "both, trimmed",
    "both, steps",
    "added, lies",
    "both, trimmed, negated",
    "both, trimmed, negated, padded",
    "added, own tasks",
    "added, two models",
):
    ARMS[f"{_name}, winners"] = replace(
        ARMS[_name], about=f"{_name}, of fetched groups only the winners", learn_from="winners"
    )
for _name, _times in (
    ("both", 2),
    ("both", 3),
    ("added", 3),
    ("both, trimmed, negated", 3),
    ("both, steps", 3),
    ("added, two models", 3),
):
    ARMS[f"{_name}, winners, x{_times}"] = replace(
        ARMS[f"{_name}, winners"],
        about=f"{_name}, winners, {_times} times as many fetched groups as own",
        fetched=float(_times),
    )
ARMS["trimmed, checked, negated"] = Arm(
    "trimmed mean, checked, one peer sends negated weights", rule="trimmed_mean", poison="negated", validation=32
)


@dataclass(frozen=True)
class Job:
    """One run: an arm, a rate, a number of peers and a seed."""

    model: str
    arm: str
    learning_rate: float
    peers: int
    seed: int
    rounds: int
    """Of an arm that samples all its groups itself."""
    groups: int
    """Groups of 8 that a peer alone samples in a round."""

    def key(self) -> dict[str, Any]:
        return asdict(self)


_PLANS: dict[str, list[tuple[str, tuple[int, ...], tuple[float, ...]]]] = {
    "smollm2": [
        ("alone", (1,), (5e-4, 2.5e-4, 1.25e-4)),
        ("mean", (4,), (1e-3, 5e-4)),
        ("both", (4,), (5e-4, 1e-3)),
        ("trimmed, negated", (4,), (5e-4, 1e-3)),
        ("both, trimmed", (4,), (5e-4,)),
        ("both, trimmed, negated", (4,), (5e-4,)),
        ("mean", (8,), (1e-3, 2e-3, 4e-3)),
        ("both, steps", (4,), (5e-4, 2.5e-4)),
        ("mean, steps", (4,), (5e-4, 2.5e-4)),
        ("trimmed, steps, negated", (4,), (5e-4,)),
        ("both, steps", (8,), (5e-4,)),
        ("both", (8,), (5e-4, 1e-3)),
        ("alone", (1,), (1e-3,)),
        ("trimmed", (4,), (1e-3,)),
        ("added", (4,), (5e-4,)),
        ("both, trimmed, stages", (4, 8), (5e-4,)),
        ("mean, stages", (4,), (5e-4, 1e-3)),
        ("mean", (4,), (2e-3,)),
        ("mean", (2,), (5e-4, 1e-3, 2.5e-4)),
        ("mean/5", (4,), (1e-3,)),
        ("product", (4,), (1e-3,)),
        ("trimmed, random", (4,), (1e-3,)),
        ("4/4", (4,), (5e-4,)),
        ("mean, own tasks", (4,), (1e-3, 5e-4)),
        ("alone, own tasks", (2,), (5e-4, 2.5e-4)),
        ("added, own tasks", (4,), (5e-4,)),
        ("alone, two models", (2,), (2.5e-4, 5e-4, 1.25e-4)),
        ("added, two models", (2,), (2.5e-4, 5e-4, 1.25e-4)),
        ("both, winners", (4, 8), (5e-4,)),
        ("both, winners", (4,), (1e-3,)),
        ("both, trimmed, stages, all", (4,), (5e-4,)),
        ("both, trimmed, negated, winners", (4,), (5e-4,)),
        ("both, trimmed, negated, padded, winners", (4,), (5e-4,)),
        ("both, trimmed, negated, padded", (4,), (5e-4,)),
        ("added, two models, winners", (2,), (2.5e-4, 5e-4, 1.25e-4)),
        ("both, winners, x2", (4,), (5e-4,)),
        ("alone, unfiltered", (1,), (5e-4,)),
    ],
    "tiny": [
        ("alone", (1,), (2e-4, 4e-4, 1e-4, 8e-4)),
        ("mean", (4,), (8e-4, 4e-4, 1.6e-3, 2e-4, 3.2e-3)),
        ("trimmed", (4,), (8e-4, 4e-4, 1.6e-3)),
        ("trimmed, negated", (4,), (8e-4, 4e-4)),
        ("added", (4,), (4e-4, 2e-4, 8e-4)),
        ("both", (4,), (8e-4, 4e-4, 1.6e-3)),
        ("both, trimmed", (4,), (8e-4, 4e-4)),
        ("both, trimmed, negated", (4,), (8e-4, 4e-4)),
        ("both, trimmed, negated, cap 10", (4,), (8e-4,)),
        ("added, lies, cap 10", (4,), (4e-4,)),
        ("mean", (8,), (1.6e-3, 8e-4, 3.2e-3)),
        ("mean", (2,), (4e-4, 2e-4, 8e-4)),
        ("4/4", (4,), (2e-4, 1e-4, 4e-4)),
        ("6/2", (4,), (2e-4, 1e-4, 4e-4)),
        ("2/6", (4,), (2e-4, 1e-4, 4e-4)),
        ("alone, unfiltered", (1,), (2e-4, 1e-4, 4e-4)),
        ("trimmed, checked", (4,), (8e-4,)),
        ("trimmed, checked, negated", (4,), (8e-4,)),
        ("trimmed, random", (4,), (8e-4,)),
        ("trimmed, huge", (4,), (8e-4,)),
        ("trimmed, nan", (4,), (8e-4,)),
        ("mean, negated", (4,), (8e-4,)),
        ("mean, random", (4,), (8e-4,)),
        ("added, lies", (4,), (4e-4,)),
        ("mean/2", (4,), (8e-4, 4e-4)),
        ("mean/5", (4,), (8e-4, 4e-4, 2e-4)),
        ("median", (4,), (8e-4,)),
        ("reward", (4,), (8e-4,)),
        ("zero moments", (4,), (8e-4,)),
        ("mean moments", (4,), (8e-4,)),
        ("both, half", (4,), (8e-4,)),
        ("trimmed", (8,), (8e-4, 1.6e-3, 3.2e-3)),
        ("mean of 4", (8,), (1.6e-3, 8e-4, 3.2e-3)),
        ("trimmed of 4", (8,), (1.6e-3, 8e-4, 3.2e-3)),
        ("both", (8,), (1.6e-3,)),
        ("added", (8,), (4e-4,)),
        ("both, steps", (4,), (8e-4, 4e-4)),
        ("mean, steps", (4,), (8e-4, 4e-4)),
        ("trimmed, steps", (4,), (8e-4, 4e-4)),
        ("trimmed, steps, negated", (4,), (8e-4, 4e-4)),
        ("both, steps", (8,), (8e-4, 4e-4)),
        ("mean, steps", (8,), (8e-4, 4e-4)),
        ("mean, rising", (4,), (1.6e-3, 3.2e-3)),
        ("mean, stages", (4,), (1.6e-3, 3.2e-3)),
        ("mean, stages, rising", (4,), (1.6e-3, 3.2e-3)),
        ("alone, steps", (1,), (2e-4, 1e-4, 4e-4)),
        ("alone, practice", (1,), (4e-4, 8e-4)),
        ("mean, practice", (4,), (8e-4,)),
        ("trimmed, practice", (4,), (8e-4,)),
        ("alone, own tasks", (2,), (2e-4, 1e-4, 4e-4)),
        ("mean, own tasks", (4,), (8e-4, 4e-4)),
        ("added, own tasks", (4,), (4e-4, 2e-4)),
        ("alone, two models", (2,), (2e-4, 1e-4, 4e-4)),
        ("added, two models", (4,), (2e-4, 1e-4, 4e-4)),
        ("added, two models, winners", (4,), (4e-4, 2e-4, 8e-4)),
        ("added, winners", (4,), (8e-4, 4e-4, 2e-4)),
        ("added, lies, winners", (4,), (4e-4, 8e-4)),
        ("added, own tasks, winners", (4,), (4e-4, 8e-4, 2e-4)),
        ("both, winners", (4,), (8e-4, 4e-4, 1.6e-3)),
        ("both, winners", (8,), (1.6e-3,)),
        ("both, trimmed, winners", (4,), (8e-4, 4e-4)),
        ("both, trimmed, negated, winners", (4,), (8e-4, 4e-4)),
        ("both, steps, winners", (4,), (4e-4, 8e-4)),
        ("added, winners, x3", (4,), (8e-4,)),
        ("both, winners, x2", (4,), (8e-4,)),
        ("both, winners, x3", (4,), (8e-4, 4e-4)),
        ("both, trimmed, negated, winners, x3", (4,), (8e-4,)),
        ("both, steps, winners, x3", (4,), (8e-4,)),
        ("added, two models, winners, x3", (4,), (4e-4, 8e-4)),
        ("both, trimmed, stages", (4,), (8e-4, 4e-4)),
        ("both, trimmed, stages, all", (4,), (8e-4, 4e-4)),
    ],
}
SIZES = {"smollm2": (25, 4), "tiny": (100, 8)}
"""Rounds and groups by model, as in the measurements that this one repeats."""


def plan(model: str, seeds: int, rounds: int | None) -> Iterator[Job]:
    """The most telling jobs first, all arms of one seed before the next seed."""
    usual, groups = SIZES[model]
    for seed in range(seeds):
        for arm, sizes, rates in _PLANS[model]:
            for peers in sizes:
                for rate in rates:
                    yield Job(model, arm, rate, peers, seed, rounds or usual, groups)
