"""What came of a round: its numbers, and what the journal keeps beside them."""

from dataclasses import dataclass, field
from typing import Any

from swarm.journal.journal import AuditRow, RecordRow
from swarm.round.assignment import Drawn


@dataclass
class RoundReport:
    """What came of a round, as the journal keeps it and the display shows it."""

    number: int
    ordinal: int
    reward: float | None = None
    """Mean verifier (or jury) reward of this peer's own answers."""
    rewards: dict[str, float] = field(default_factory=dict)
    """Mean reward of this peer's own groups by stage."""
    partners: int = 0
    """Other peers whose answers arrived."""
    rollouts_published: int = 0
    rollouts_fetched: int = 0
    critiques: int = 0
    """Critique texts written."""
    verdicts: int = 0
    """Answers judged."""
    revisions: int = 0
    groups_trained: int = 0
    groups_fetched: int = 0
    """Fetched groups among those trained."""
    practised: int = 0
    """Groups that this peer sampled for itself alone while it waited, since its last update."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Groups that were not trained, by reason."""
    refused: dict[str, int] = field(default_factory=dict)
    """Records of others that were not accepted, by reason."""
    updated: bool = False
    update: dict[str, Any] = field(default_factory=dict)
    generated_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by stage; `wait` is what was spent waiting for others."""
    network: dict[str, int] = field(default_factory=dict)
    """Bytes and blobs of this peer during the round by kind and direction, and what was under way at its end."""
    merged: int = 0
    """Peers whose weights were merged into this one's."""
    merge_refused: dict[str, int] = field(default_factory=dict)
    """Weights of others that were not taken, by reason."""
    staleness_s: float | None = None
    """Mean age of the merged weights in seconds, from the start of their round to that of this one. Groups are always
    of this round."""
    merge_gain: float | None = None
    """By how much the merge changed the share of fresh questions answered right."""
    help: dict[str, Any] | None = None
    """What merging with others has brought so far, `swarm.round.benefit.Help`."""
    joules: float | None = None
    """Energy used in the round; None where the machine does not tell."""
    peak_memory: int | None = None
    """Bytes in use at most so far: of tensors on a GPU, else of the process."""
    points: float = 0.0
    informedness: float | None = None
    """Of this peer as a judge, over its audits so far."""
    why_nothing: str | None = None
    """In plain words, why the round earned nothing or taught nothing."""


@dataclass(frozen=True)
class Outcome:
    """A finished round: its report, and what the journal keeps beside it."""

    report: RoundReport
    records: list[RecordRow]
    """All announcements that were seen, and the records that were accepted."""
    audits: list[AuditRow]
    published: set[str]
    """Peers whose answers are here, this one's included."""
    missing: set[str]
    """Peers that were waited for in vain, in any stage."""
    undelivered: set[str]
    """Peers that announced a record which did not arrive or was refused."""
    drawn: Drawn
    """Who was to judge whom."""
