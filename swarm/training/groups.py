"""Experience as an update takes it: groups of completions with advantages, and the rows that they come apart into."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from swarm.training.layout import Tokens


@dataclass(frozen=True)
class TrainingGroup:
    """Completions of one prompt with their advantages. Plain data: it may come from another peer."""

    prompt: Tokens
    completions: tuple[tuple[Tokens, tuple[float, ...]], ...]
    """(token ids, behaviour log-probabilities in nats at `temperature`), the end token included where it was drawn."""
    advantages: tuple[float, ...]
    own: bool
    """Sampled here, by the present weights."""
    temperature: float
    rescored: bool = False
    """The present weights say how likely its tokens were, whatever stands in `completions`, so that the ratio begins
    at 1: of a model of another family, or of an author whose log-probabilities are not asked for."""

    def winners(self) -> "TrainingGroup":
        """Only its completions with a positive advantage teach, as if the present weights had written them."""
        return replace(self, advantages=tuple(max(0.0, value) for value in self.advantages), rescored=True)

    def flaw(self, vocabulary: int) -> str | None:
        """Why this group cannot be trained on, in a few words; None if it can."""
        if not self.prompt:
            return "an empty prompt"
        if len(self.advantages) != len(self.completions):
            return "advantages and completions differ in number"
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            return "a temperature that is not positive"
        if not all(map(math.isfinite, self.advantages)):
            return "an advantage that is not a number"
        for tokens, logprobs in self.completions:
            if not tokens or len(tokens) != len(logprobs):
                return "tokens and log-probabilities that differ in number"
            if not all(math.isfinite(value) and value <= 1e-3 for value in logprobs):
                return "a log-probability that is not one"
        ids = [token for tokens in (self.prompt, *(tokens for tokens, _ in self.completions)) for token in tokens]
        if not all(0 <= token < vocabulary for token in ids):
            return "a token outside the vocabulary"
        return None


@dataclass(frozen=True)
class Row:
    prompt: Tokens
    completion: Tokens
    logprobs: tuple[float, ...]
    advantage: float
    temperature: float
    own: bool
    rescored: bool
    group: int


def rows_of(groups: Sequence[TrainingGroup]) -> list[Row]:
    """Rows with an advantage, the groups with the longest first: completions of one prompt are computed together, alike
    lengths share a micro-batch, and memory runs out early or never."""
    rows = [
        Row(group.prompt, tokens, logprobs, advantage, group.temperature, group.own, group.rescored, index)
        for index, group in enumerate(groups)
        for (tokens, logprobs), advantage in zip(group.completions, group.advantages, strict=True)
        if advantage != 0
    ]
    longest: dict[int, int] = {}
    for row in rows:
        longest[row.group] = max(longest.get(row.group, 0), len(row.prompt) + len(row.completion))
    return sorted(rows, key=lambda row: (longest[row.group], row.group, len(row.completion)), reverse=True)
