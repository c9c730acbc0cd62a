"""What a recipe says, typed.

Each field states its unit and default where it is declared. A recipe that validates here is complete: its JSONL files
are inlined, so that its canonical bytes (`Recipe.canonical`) are all that another peer needs, and their hash, which the
registry contract holds, pins every task, prompt and setting of the swarm.
"""

import json
import re
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Literal

import reasoning_gym
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from reasoning_gym.factory import DATASETS

from swarm.recipe.nearest import nearest

MAX_ITEMS = 100_000
STAGES = ("answer", "critique", "revise")
Stage = Literal["answer", "critique", "revise"]
MergeRule = Literal["none", "mean", "median", "trimmed_mean", "reward_weighted"]
LearnFrom = Literal["winners", "all"]

_PROMPT_FIELDS = {
    "answer": {"question", "subject"},
    "critique": {"question", "subject", "answer"},
    "revise": {"question", "subject", "answer", "critiques"},
    "statement": {"question", "subject", "answer"},
    "reading": {"question", "subject", "answer", "critique"},
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class GymSource(Section):
    """Tasks from a reasoning_gym dataset."""

    dataset: str
    """Name in reasoning_gym, such as chain_sum."""
    config: dict[str, Any] = {}
    """Arguments of that dataset's config; `seed` and `size` are the swarm's to set."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Share of the tasks, relative to the other sources."""

    @model_validator(mode="after")
    def _dataset_exists(self) -> "GymSource":
        if self.dataset not in DATASETS:
            raise ValueError(f"reasoning_gym has no dataset {self.dataset!r}{nearest(self.dataset, DATASETS)}")
        reserved = {"seed", "size"} & set(self.config)
        if reserved:
            raise ValueError(f"config may not set {', '.join(sorted(reserved))}: the round's seed decides it")
        files = [name for name in self.config if "file" in name or "path" in name]
        if files:
            raise ValueError(f"config may not set {files[0]!r}: a recipe reads no files of the peer that runs it")
        known = [name for name in DATASETS[self.dataset][1].__dataclass_fields__ if name not in ("seed", "size")]
        for name in self.config:
            if name not in known:
                raise ValueError(f"{self.dataset} has no setting {name!r}{nearest(name, known)}")
        try:
            reasoning_gym.create_dataset(self.dataset, seed=0, size=1, **self.config)[0]
        except Exception as error:  # the dataset's own code raises what it likes
            raise ValueError(f"{self.dataset} refuses its config: {error or type(error).__name__}") from error
        return self


class Item(Section):
    """One line of a JSONL file of tasks."""

    prompt: Annotated[str, Field(min_length=1, max_length=20_000)]
    answer: Annotated[str, Field(max_length=20_000)] | None = None
    """The right answer; without one the jury decides."""
    seal: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """In place of an answer: its seal (`swarm seal`), which the recipe's author opens where the item is an audit."""

    @model_validator(mode="after")
    def _answer_or_seal(self) -> "Item":
        if self.answer is not None and self.seal is not None:
            raise ValueError("an item has an answer or a seal, not both: a shown answer is no secret")
        return self


class ItemSource(Section):
    """Tasks from a JSONL file of prompt/answer lines. The recipe names the file; loading puts its items in place."""

    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=MAX_ITEMS)]
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Share of the tasks, relative to the other sources."""


class Tasks(Section):
    sources: Annotated[tuple[GymSource | ItemSource, ...], Field(min_length=1, max_length=64)]
    shared: Annotated[int, Field(ge=0, le=256)] = 2
    """Tasks per round that every peer answers."""
    own: Annotated[int, Field(ge=0, le=256)] = 2
    """Tasks per round that one peer alone answers."""
    practice: Annotated[int, Field(ge=0, le=256)] = 8
    """Further tasks per round, at most, that a peer answers for its own update only, while it waits for others."""
    subject: str | None = None
    """Regular expression whose first group picks the subject out of a question, for `{subject}` in prompts."""

    @model_validator(mode="after")
    def _some(self) -> "Tasks":
        if self.shared + self.own == 0:
            raise ValueError("shared and own are both 0: a round needs at least one task")
        return self

    @field_validator("subject")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and _compile(pattern).groups < 1:
            raise ValueError("subject needs one group in parentheses")
        return pattern


class Verifier(Section):
    """How code checks an answer."""

    extract: Literal["whole", "last_number", "first_line", "regex"] = "whole"
    """What of a completion counts as its answer."""
    pattern: str | None = None
    """Regular expression for `extract: regex`; its first group is the answer."""
    score: Literal["exact", "numeric", "gym"] = "exact"
    """exact: equal text; numeric: equal number; gym: the dataset's own score_answer."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Scores below it count as 0: crumbs for garbage fake variance inside a group."""

    @model_validator(mode="after")
    def _pattern_where_needed(self) -> "Verifier":
        if (self.extract == "regex") != (self.pattern is not None):
            raise ValueError("pattern goes with extract: regex, and only with it")
        if self.pattern is not None and _compile(self.pattern).groups < 1:
            raise ValueError("pattern needs one group in parentheses")
        return self


class Prompts(Section):
    """The prompts of the three stages. `{question}`, `{subject}`, `{answer}` and `{critiques}` are filled in."""

    chat: bool = True
    """Wrap prompts in the model's chat template; false sends them as they are."""
    system: str = ""
    answer: str
    critique: str
    revise: str

    @field_validator("answer", "critique", "revise")
    @classmethod
    def _known_fields(cls, template: str, info: Any) -> str:
        return _check_template(template, info.field_name)


class Judge(Section):
    """How a judge's verdict is read."""

    method: Literal["likelihood", "yes_no", "text"] = "likelihood"
    """likelihood: how likely the model finds the answer inside `statement`, which stands where its own answer would;
    yes_no: log-odds of the words Yes and No after `statement` as a prompt; text: the last Yes or No in what the model
    writes after `statement` as a prompt, in at most as many tokens as a critique may have, for models that reason."""
    statement: str = "{answer}"
    """Template with `{answer}`, and `{subject}` or `{question}` if it needs them."""
    reading: str
    """The prompt under which the statement is judged again after reading a critique, with `{critique}` in it: a
    critique is rewarded by how right that judgement is."""

    @field_validator("reading")
    @classmethod
    def _reads_a_critique(cls, template: str) -> str:
        if "{critique}" not in template:
            raise ValueError("reading needs {critique}")
        return _check_template(template, "reading")

    @field_validator("statement")
    @classmethod
    def _known_fields(cls, template: str) -> str:
        if "{answer}" not in template:
            raise ValueError("statement needs {answer}")
        return _check_template(template, "statement")


class Audits(Section):
    """What is checked of judges and of rollouts; see docs/judging.md and docs/judging-protocol.md."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Probability that a sealed item is an audit in a round in which it is judged."""
    publish_weights: bool = False
    """Each peer publishes the trainable weights that it samples with, and replays answers of one other peer per round
    under the weights of that peer. Costs four bytes per trainable weight (LoRA r16 on SmolLM2-135M: 20 MB) a round."""


class Rewards(Section):
    critique_score: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Weight of the proper score of a critique's verdict."""
    critique_form: Annotated[float, Field(ge=0, le=10)] = 0.1
    """Weight of a critique's form: it ends by itself and says something."""


class StageSettings(Section):
    samples: Annotated[int, Field(ge=1, le=256)] = 8
    """Completions per prompt (the group size G)."""
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 64
    temperature: Annotated[float, Field(gt=0, le=5)] = 1.0


class CritiqueSettings(StageSettings):
    items: Annotated[int, Field(ge=0, le=256)] = 4
    """Answers of others that a peer judges per round."""


class ReviseSettings(StageSettings):
    groups: Annotated[int, Field(ge=0, le=256)] = 2
    """Own criticised answers that a peer revises per round, at most."""


class Stages(Section):
    answer: StageSettings = StageSettings()
    critique: CritiqueSettings = CritiqueSettings()
    revise: ReviseSettings = ReviseSettings()


class Lora(Section):
    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[float, Field(gt=0, le=2048)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class Model(Section):
    id: Annotated[str, Field(min_length=1, max_length=300)] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """Hub id, path, or `tiny` (a model of under a million parameters that the project builds itself)."""
    lora: Lora | None = Lora()
    """null trains all weights."""
    autocast: Literal["auto", "bfloat16", "none"] = "auto"
    """Matrix arithmetic over fp32 master weights; auto takes bfloat16 where the hardware has it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights. bfloat16 takes half the memory and leaves `autocast` without effect; with all weights trained it
    wants `grpo.optimizer: adamw_8bit`, which rounds at random where a step is smaller than the type can hold."""


class Grpo(Section):
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo", "gspo"] = "dapo"
    """TRL's loss_type; gspo: one ratio per completion instead of one per token (its authors clip at 3e-4 and 4e-4)."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit keeps its two moments in one byte per weight each."""
    token_mask: Annotated[float, Field(gt=0, le=1)] | None = None
    """Tokens whose probability has changed by more than this since they were sampled teach nothing; null: all do."""
    sequence_mask: Annotated[float, Field(gt=0, le=100)] | None = None
    """Completions worse than their group, which have become less likely by more than this many nats per token since
    they were sampled, teach nothing; null: all do."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_high: Annotated[float, Field(gt=0, lt=10)] = 0.28
    beta: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Weight of the KL penalty to the starting model; 0 needs no reference model."""
    scale_advantages: bool = True
    """Divide a group's advantages by its standard deviation."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] = 1.0
    micro_batch: Annotated[int, Field(ge=1, le=1024)] = 32
    """Rows per forward and backward pass; halved by itself when memory runs out."""


class Sharing(Section):
    fetch_peers: Annotated[int, Field(ge=0, le=64)] = 8
    """Peers whose rollouts a peer fetches per round, drawn by the round's seed."""
    external_groups: Annotated[int, Field(ge=0, le=256)] = 4
    """Fetched groups in an update, at most, beside the own ones."""
    author_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of an update's fetched groups that one author may have, where several authors are there."""
    other_models: Literal["rescore", "drop"] = "rescore"
    """What is done with groups of peers that train another model: rescore reads their texts in the own tokens and takes
    the present policy for the one that wrote them; drop learns from the same model only."""
    learn_from: LearnFrom = "winners"
    """What of a fetched group is learned from: winners takes its completions with a positive advantage as if the
    present policy had written them (the positive half of TOPR, arXiv:2503.14286), whatever log-probabilities came with
    them; all takes the others, too, and corrects each token by the ratio of its present probability to that under which
    it was sampled (docs/collective.md)."""
    merged_peers: Literal["train", "skip"] = "train"
    """What is done with groups of peers whose weights were in the last merge: train learns from them as from others';
    skip leaves them out, as what they taught their author came with the weights: updates are shorter, and at the rate
    that several peers bear rounds teach less (docs/collective.md)."""
    update_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the time that is left in a round which an update with fetched groups may take."""
    judges: Annotated[int, Field(ge=0, le=32)] = 2
    """Judges per answer that is put up for critique."""


class Merging(Section):
    """How peers that train the same model make one of their weights (docs/collective.md)."""

    rule: MergeRule = "trimmed_mean"
    """none: each keeps its own weights; median and trimmed_mean bear a poisoner among four."""
    every: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Rounds between two merges."""
    fetch_peers: Annotated[int, Field(ge=0, le=64)] = 3
    """Peers whose weights a peer fetches per merge, drawn by the round's seed."""
    stale_rounds: Annotated[int, Field(ge=0, le=1000)] = 2
    """Weights that were published more full-length rounds ago than this are not merged."""
    validation: Annotated[int, Field(ge=0, le=1000)] = 32
    """Fresh questions, answered greedily before and after a merge, that decide whether it is kept; 0 keeps all."""
    steps: Literal["one", "per_peer"] = "one"
    """Optimiser steps of an update: one, or as many as there were peers in the last merge, this one included, each on a
    part of the groups (docs/collective.md)."""
    learning_rate_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The learning rate is `grpo.learning_rate` times (peers in the last merge, this one included) to this power."""
    learning_rate_rise: Annotated[float, Field(gt=0, le=1000)] = 0.5
    """After n steps of the optimiser the rate is at most 1 + n times this, times `grpo.learning_rate`."""


class Timing(Section):
    round_s: Annotated[int, Field(ge=2, le=86_400)] = 240
    """Seconds after its start at which a round is over for those who wait for others."""
    tick_s: Annotated[int, Field(ge=1, le=600)] = 1
    """Rounds start at multiples of this many seconds after genesis."""
    answer: Annotated[float, Field(gt=0, lt=1)] = 0.45
    """Share of the round until the answers are due."""
    critique: Annotated[float, Field(gt=0, lt=1)] = 0.65
    """Share of the round until the critiques are due."""
    revise: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """Share of the round until the revisions are due; what is left is for the update."""

    @model_validator(mode="after")
    def _in_order(self) -> "Timing":
        if not self.answer < self.critique < self.revise:
            raise ValueError("the stages end in order: answer < critique < revise")
        if self.round_s % self.tick_s or self.round_s == self.tick_s:
            raise ValueError(
                f"round_s ({self.round_s}) must be two or more times tick_s ({self.tick_s}), a whole multiple"
            )
        return self


class Settlement(Section):
    epoch_rounds: Annotated[int, Field(ge=1, le=100_000)] = 60
    """Points are put on the chain every so many times `timing.round_s`."""
    challenge_s: Annotated[int, Field(ge=1, le=30 * 86_400)] = 3600
    """Seconds in which a posted settlement can be disputed before it is final."""


class Heldout(Section):
    count: Annotated[int, Field(ge=0, le=10_000)] = 64
    """Questions, answered greedily, that no round ever trains on."""
    every: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Rounds between two measurements; the first and the last round are always measured."""
    seed: int = 987_654_321


class Recipe(Section):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    description: Annotated[str, Field(max_length=2000)] = ""
    tasks: Tasks
    verifier: Verifier | None = Verifier()
    """null: no code can check an answer, the jury decides."""
    prompts: Prompts
    judge: Judge
    audits: Audits = Audits()
    rewards: Rewards = Rewards()
    stages: Stages = Stages()
    model: Model = Model()
    grpo: Grpo = Grpo()
    sharing: Sharing = Sharing()
    merging: Merging = Merging()
    timing: Timing = Timing()
    settlement: Settlement = Settlement()
    heldout: Heldout = Heldout()

    def canonical(self) -> bytes:
        """The recipe as one JSON text: the same bytes on every peer."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        ).encode()

    def hash(self) -> bytes:
        """32 bytes: SHA-256 of the canonical text, as the registry contract holds it."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        return sha256(self.canonical()).digest()

    def __hash__(self) -> int:
        return int.from_bytes(self._digest[:8], "big")


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error


def _check_template(template: str, stage: str) -> str:
    for name in re.findall(r"\{(\w*)\}", template):
        if name not in _PROMPT_FIELDS[stage]:
            allowed = ", ".join(f"{{{field}}}" for field in sorted(_PROMPT_FIELDS[stage]))
            raise ValueError(f"{{{name}}} is not filled in here; allowed: {allowed}")
    return template
