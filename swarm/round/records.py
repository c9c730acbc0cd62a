"""What peers send each other about a round: typed, bounded, strict.

A record travels as zlib-compressed JSON in a content-addressed blob; the announcement of the blob is signed by its
author. An unknown field, a wrong type, a list that is too long or a header that contradicts the announcement: refused
before anything else looks at it.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from swarm import PROTOCOL
from swarm.recipe.schema import Recipe, Stage
from swarm.round.wire import Digest, PeerId, Raw, RecordRefused, Wire, pack, unpack

MAX_BLOB_BYTES = 8 * 2**20
MAX_JSON_BYTES = 32 * 2**20
MAX_TEXT = 32_768

Kind = Stage | Literal["open"]
"""Of a record: what a stage made, or the openings of sealed answers."""
Salt = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""128 random bits: a hash over them hides what else is in it."""
Level = Literal["none", "audit", "replicate"]
"""What others can check of a rollout: nothing but its outcome; the claimed log-probabilities, where they have the
weights; or the sampling itself, whose noise follows from public numbers."""

Index = Annotated[int, Field(ge=0, le=1023)]
Unix = Annotated[float, Field(ge=0, le=1e11)]


class Rollout(Wire):
    """One completion with exact token ids and behaviour log-probs."""

    tokens: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1, max_length=8192)]
    logprobs: Annotated[tuple[Annotated[float, Field(ge=-1000, le=0.001)], ...], Field(max_length=8192)]
    finished: bool
    text: Annotated[str, Field(max_length=MAX_TEXT)]

    @model_validator(mode="after")
    def _same_length(self) -> "Rollout":
        if len(self.tokens) != len(self.logprobs):
            raise ValueError("tokens and logprobs differ in length")
        return self


Rollouts = Annotated[tuple[Rollout, ...], Field(min_length=1, max_length=256)]


class AnswerGroup(Wire):
    """Completions for one task: tasks of a peer are numbered, shared ones first, then its own."""

    task: Index
    rollouts: Rollouts


class CritiqueGroup(Wire):
    """One judge's critiques of one answer, and its raw verdicts on all answers of that answer's group."""

    author: PeerId
    task: Index
    sample: Index
    verdicts: Annotated[tuple[Raw, ...], Field(min_length=1, max_length=256)]
    """For each of the author's answers to the task, the log-odds, in the judge's own scale, that it is right."""
    rollouts: Rollouts
    """The first one is the critique that the author reads."""


class RevisionGroup(Wire):
    """Revisions of one own answer."""

    task: Index
    sample: Index
    judges: Annotated[tuple[PeerId, ...], Field(max_length=32)]
    """Whose critiques the prompt held, in this order."""
    rollouts: Rollouts


class OpenedItem(Wire):
    """The answer to one sealed prompt of the recipe."""

    seal: Digest
    salt: Salt
    answer: Annotated[str, Field(max_length=20_000)]


class Envelope(Wire):
    """What every record says. The announcement of its hash commits its author to it; `salt` keeps others from guessing
    what is in it before the author reveals it."""

    protocol: Annotated[int, Field(ge=PROTOCOL, le=PROTOCOL)]
    swarm: Annotated[str, Field(max_length=100)]
    round: Annotated[int, Field(ge=0, lt=2**53)]
    peer_id: PeerId
    salt: Salt


class Header(Envelope):
    model: Annotated[str, Field(max_length=200)]
    fingerprint: Digest
    """Of the weights that sampled."""
    tokenizer: Digest
    """Token ids mean the same between peers that have the same one."""
    level: Level = "none"


class AnswerRecord(Header):
    stage: Literal["answer"] = "answer"
    groups: Annotated[tuple[AnswerGroup, ...], Field(max_length=512)]


class CritiqueRecord(Header):
    stage: Literal["critique"] = "critique"
    groups: Annotated[tuple[CritiqueGroup, ...], Field(max_length=256)]


class RevisionRecord(Header):
    stage: Literal["revise"] = "revise"
    groups: Annotated[tuple[RevisionGroup, ...], Field(max_length=256)]


class OpeningRecord(Envelope):
    """The sealed answers that are audits of a round. Anyone may publish it: each opening is checked by its seal."""

    stage: Literal["open"] = "open"
    groups: Annotated[tuple[OpenedItem, ...], Field(max_length=512)]


StageRecord = AnswerRecord | CritiqueRecord | RevisionRecord
AnyRecord = StageRecord | OpeningRecord
RECORD_OF: dict[str, type[AnswerRecord] | type[CritiqueRecord] | type[RevisionRecord] | type[OpeningRecord]] = {
    "answer": AnswerRecord,
    "critique": CritiqueRecord,
    "revise": RevisionRecord,
    "open": OpeningRecord,
}


class StageNote(Wire):
    """The value of a record's announcement, with which its author commits to it: its hash, and how much is in it."""

    sha256: Digest
    size: Annotated[int, Field(gt=0, le=MAX_BLOB_BYTES)]
    groups: Annotated[int, Field(ge=0, le=512)]
    """Groups in the record. From it everybody draws the judges, also those who do not fetch the record."""


class DoneNote(Wire):
    """The value of a round's last announcement: when its author finished."""

    at: Unix


class LiveNote(Wire):
    """The value of a heartbeat."""

    protocol: Annotated[int, Field(ge=0, lt=2**31)]
    name: Annotated[str, Field(max_length=40)]
    model: Annotated[str, Field(max_length=120)]
    device: Annotated[str, Field(max_length=60)]
    round: Annotated[int, Field(ge=-1, lt=2**53)]
    """The round that the peer is in; -1 before its first."""
    tokens_per_s: Annotated[float, Field(ge=0, le=1e9)]
    address: Annotated[str, Field(max_length=200)]
    """A multiaddr of the peer, for those who come back after everybody moved."""
    recipe_bytes: Annotated[int, Field(ge=0, le=2**26)]
    """Size of the recipe's blob, whose hash is on the chain: newcomers fetch it from any peer."""
    leaving: bool = False


def encode(record: AnyRecord) -> bytes:
    """A record as the bytes of a blob."""
    return pack(record)


def decode(stage: Kind, blob: bytes) -> AnyRecord:
    """The record in a blob.

    Raises:
        RecordRefused: it is no such record. Never uses more memory than MAX_JSON_BYTES and the record's own size.
    """
    if len(blob) > MAX_BLOB_BYTES:
        raise RecordRefused("too large", f"a record of {len(blob)} bytes; {MAX_BLOB_BYTES} are allowed")
    return unpack(RECORD_OF[stage], blob, MAX_JSON_BYTES)


def decode_openings(blob: bytes) -> OpeningRecord:
    """The openings in a blob that was accepted before."""
    record = decode("open", blob)
    assert isinstance(record, OpeningRecord)
    return record


def check_header(record: AnyRecord, swarm: str, number: int, peer_id: str, note: StageNote) -> None:
    """Whether a record is what its announcement says.

    Raises:
        RecordRefused: another swarm, round, author, protocol or number of groups.
    """
    claimed = (record.swarm, record.round, record.peer_id)
    if claimed != (swarm, number, peer_id):
        raise RecordRefused("replayed", f"a record of {claimed} announced as {(swarm, number, peer_id)}")
    if len(record.groups) != note.groups:
        raise RecordRefused("not as announced", f"a record of {len(record.groups)} groups announced with {note.groups}")


def check_lengths(record: AnyRecord, recipe: Recipe) -> None:
    """Whether a record keeps to the recipe's limits.

    Raises:
        RecordRefused: too many groups, samples or tokens, too few samples, the same item twice, answers that leave out
            an earlier task, or a completion that ends neither by itself nor at the limit.
    """
    if isinstance(record, OpeningRecord):
        if len({opened.seal for opened in record.groups}) != len(record.groups):
            raise RecordRefused("twice", "a record that opens the same item twice")
        return
    stages = recipe.stages
    tasks = recipe.tasks.shared + recipe.tasks.own
    limits = {
        "answer": (tasks, stages.answer),
        "critique": (stages.critique.items, stages.critique),
        "revise": (stages.revise.groups, stages.revise),
    }
    groups, settings = limits[record.stage]
    if len(record.groups) > groups:
        raise RecordRefused("too long", f"{len(record.groups)} groups where the recipe has {groups}")
    if len(set(map(_slot, record.groups))) != len(record.groups):
        raise RecordRefused("twice", "a record that holds the same item twice")
    for group in record.groups:
        if group.task >= tasks:
            raise RecordRefused("too long", f"a group of task {group.task} where the recipe has {tasks}")
        if isinstance(group, RevisionGroup) and not _few_and_distinct(group.judges, recipe.sharing.judges):
            raise RecordRefused("too long", f"a revision after {len(group.judges)} critiques, or twice after the same")
        if len(group.rollouts) > settings.samples:
            raise RecordRefused("too long", f"{len(group.rollouts)} samples where the recipe has {settings.samples}")
        if len(group.rollouts) < settings.samples:
            raise RecordRefused("incomplete", f"{len(group.rollouts)} samples where the recipe has {settings.samples}")
        for rollout in group.rollouts:
            length = len(rollout.tokens)
            if length > settings.max_new_tokens or (not rollout.finished and length < settings.max_new_tokens):
                raise RecordRefused("too long", "a completion that ends neither by itself nor at the recipe's limit")
    if isinstance(record, AnswerRecord) and [group.task for group in record.groups] != list(range(len(record.groups))):
        raise RecordRefused("incomplete", "answers that leave out a task, or come in another order")


def _few_and_distinct(judges: tuple[str, ...], limit: int) -> bool:
    return len(set(judges)) == len(judges) <= limit


def _slot(group: AnswerGroup | CritiqueGroup | RevisionGroup) -> tuple[object, ...]:
    match group:
        case AnswerGroup():
            return (group.task,)
        case CritiqueGroup():
            return (group.author, group.task, group.sample)
        case RevisionGroup():
            return (group.task, group.sample)
