"""A swarm of scripted peers that judge each other, some of them to cheat.

What is simulated is only what the peers do. Tasks, assignment of judges, records, commit and reveal, sealed audits,
calibration, jury, rewards, points and settlement are the code of the swarm, over announcements in memory.
"""

import gc
import random
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from swarm import PROTOCOL
from swarm.identity.key import Identity
from swarm.journal.journal import RecordRow
from swarm.judging.calibration import Calibration, calibrate
from swarm.judging.jury import decide, vote_of
from swarm.network.blobs import BlobRef
from swarm.recipe.schema import Item as PromptItem
from swarm.recipe.schema import ItemSource, Recipe
from swarm.recipe.seals import is_audit, seal_of
from swarm.recipe.tasks import Task
from swarm.recipe.verifiers import extract_answer
from swarm.round.assignment import Assigner, Item
from swarm.round.evidence import Book, Evidence
from swarm.round.exchange import Exchange, Received
from swarm.round.records import (
    AnswerGroup,
    AnswerRecord,
    AnyRecord,
    CritiqueGroup,
    CritiqueRecord,
    Kind,
    OpenedItem,
    OpeningRecord,
    Rollout,
)
from swarm.settlement.compute import Basis, SignedManifest, counted_records, settle
from swarm.settlement.documents import Manifest, Seen
from swarm.simulate.judging_measures import NAIVE, Account, Answer, Judged, Measures, ceiling, measure, naive_points
from swarm.simulate.judging_peers import ADVERSARIES, Honest, Scene
from swarm.simulate.judging_table import Place, Table

SWARM = "0:simulated"
_WITNESSES = 6
"""Peers whose manifests go into the settlement."""
_MAX_TOKENS = 8
"""Of a scripted completion: no recipe allows fewer, and nobody reads them."""
_QUESTIONS = 3000
DEFENCES = ("seals", "commit", "reveal", "consistency", "extraction")
"""Audits are sealed; answers are committed to before any is seen; what was not revealed does not count; neither does
what an author said in two ways; judges read what the verifier extracts."""


@dataclass(frozen=True)
class Settings:
    """A simulation; `without` names defences that are switched off, to show what they are for."""

    peers: int = 20
    adversary: str = "clique"
    share: float = 0.0
    rounds: int = 30
    seed: int = 0
    recipe: Recipe | None = None
    """None: `default_recipe`."""
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Result:
    settings: Settings
    real: Measures
    ceiling: float | None
    """Accuracy of a jury that knows who is honest, from the same verdicts."""
    naive: Mapping[str, Measures]

    def as_json(self) -> dict[str, Any]:
        """What `swarm simulate --json` prints."""
        return {
            "peers": self.settings.peers,
            "adversary": self.settings.adversary,
            "share": self.settings.share,
            "rounds": self.settings.rounds,
            "seed": self.settings.seed,
            "without": sorted(self.settings.without),
            **self.real.as_json(),
            "ceiling": self.ceiling and round(self.ceiling, 4),
            "naive": {name: measures.as_json() for name, measures in self.naive.items()},
        }


def simulate(settings: Settings) -> Result:
    """Run a simulation. The same settings give the same result."""
    collecting = gc.isenabled()
    gc.disable()  # nothing here is cyclic, and looking through all records again and again takes half of the time
    try:
        return _Simulation(settings).run()
    finally:
        if collecting:
            gc.enable()


def default_recipe(seed: int) -> Recipe:
    """Sums whose answers are sealed; a quarter is opened, so the jury decides on the rest."""
    chance = random.Random(f"questions {seed}")
    items = []
    for number in range(_QUESTIONS):
        one, other = chance.randint(10, 99), chance.randint(10, 99)
        prompt = f"{number}. What is {one} + {other}?"
        items.append(PromptItem(prompt=prompt, seal=seal_of(prompt, str(one + other), _salt(seed, prompt))))
    return Recipe.model_validate(
        {
            "name": "simulated",
            "tasks": {"sources": (ItemSource(items=tuple(items)),), "shared": 2, "own": 0},
            "verifier": {"extract": "last_number", "score": "numeric"},
            "prompts": {"answer": "{question}", "critique": "{question} {answer}", "revise": "{question} {critiques}"},
            "judge": {"reading": "{question} {critique}"},
            "stages": {
                "answer": {"samples": 4, "max_new_tokens": 8},
                "critique": {"samples": 1, "max_new_tokens": 16, "items": 24},
                "revise": {"groups": 0},
            },
            "sharing": {"judges": 12},
            "audits": {"share": 0.25},
        }
    )


@dataclass
class _Slot:
    """One scripted peer with the identities that it has had."""

    script: Honest
    adversary: bool
    index: int
    born: int = 0
    places: dict[str, Exchange] = field(default_factory=dict)
    work: Counter[str] = field(default_factory=Counter)
    """Groups of answers and judged items, as it claims them."""


class _Simulation:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recipe = settings.recipe or default_recipe(settings.seed)
        self._name = f"{settings.seed} {settings.peers}"
        self._table = Table()
        self._assigner = Assigner(self._recipe)
        self._audits: dict[str, list[tuple[float, bool]]] = defaultdict(list)
        self._spent: set[str] = set()
        self._bodies: dict[tuple[int, Kind, str], bytes] = {}
        self._seen: list[list[Seen]] = [[] for _ in range(_WITNESSES)]
        self._judged: list[Judged] = []
        self._labels: dict[Answer, float | None] = {}
        author = self._place("author")
        self._author_id = author.peer_id
        self._author = Exchange(author, SWARM, self._recipe)  # type: ignore[arg-type]
        self._slots = self._cast()

    def run(self) -> Result:
        for number in range(self._settings.rounds):
            self._round(number)
        points = {peer: value / 1e6 for peer, value in self._settle().items()}
        truths = {one.answer: one.right for one in self._judged}
        naive = {}
        for name, rule in NAIVE.items():
            labels, earned = naive_points(rule, self._judged)
            naive[name] = measure(self._accounts(earned), labels, truths)
        real = measure(self._accounts(points), self._labels, truths)
        honest = {peer for slot in self._slots if not slot.adversary for peer in slot.places}
        return Result(self._settings, real, ceiling(self._judged, honest), naive)

    # who takes part

    def _cast(self) -> list[_Slot]:
        """Skills are spread evenly, and a peer that answers well judges well; who cheats is drawn."""
        count = self._settings.peers
        chance = random.Random(f"cast {self._name}")
        cheats = set(chance.sample(range(count), round(self._settings.share * count)))
        slots = []
        for index in range(count):
            skill = 0.1 + 0.8 * (index + 0.5) / count
            kind = ADVERSARIES[self._settings.adversary] if index in cheats else Honest
            slot = _Slot(kind("", skill, 0.5 + 2.5 * skill), index in cheats, index)
            self._be_born(slot, 0)
            slots.append(slot)
        return slots

    def _be_born(self, slot: _Slot, number: int) -> None:
        place = self._place(f"{slot.index} {number}")
        slot.script.peer_id, slot.born = place.peer_id, number
        slot.places[place.peer_id] = Exchange(place, SWARM, self._recipe)  # type: ignore[arg-type]

    def _place(self, who: str) -> Place:
        return Place(self._table, SWARM, Identity(sha256(f"simulated {self._name} {who}".encode()).digest()))

    def _accounts(self, points: Mapping[str, float]) -> list[Account]:
        accounts = []
        for slot in self._slots:
            work = slot.work.total()
            skill, informedness = slot.script.worth()
            worth = (skill * slot.work["answer"] + informedness * slot.work["critique"]) / work
            earned = sum(points.get(peer, 0.0) for peer in slot.places)
            accounts.append(Account(worth, work, slot.adversary, earned))
        return accounts

    # one round

    def _round(self, number: int) -> None:
        for slot in self._slots:
            if slot.script.lifetime and number - slot.born >= slot.script.lifetime:
                self._be_born(slot, number)
        seed = self._seed(number)
        calibrations: dict[str, Calibration] = {}

        def calibration(judge: str) -> Calibration:
            if judge not in calibrations:
                calibrations[judge] = calibrate(self._audits[judge])
            return calibrations[judge]

        book = Book()
        evidence = Evidence(self._recipe, seed, book, calibration)
        scene = self._scene(number, seed, evidence)
        roster = self._stage(number, "answer", lambda slot: self._answer_record(number, scene, slot, book), book)
        assigned = self._assigner.draw(number, seed, roster).judges
        self._stage(number, "critique", lambda slot: self._critique_record(number, scene, slot, assigned, book), book)
        self._open(number, seed, evidence, book)
        book.keep_assigned(assigned)
        self._label(number, book, scene, calibration)
        for audit in sorted(
            evidence.audited(), key=lambda audit: (audit.judge, audit.author, audit.task, audit.sample)
        ):
            self._audits[audit.judge].append((audit.raw, audit.truth))

    def _scene(self, number: int, seed: bytes, evidence: Evidence) -> Scene:
        def right(author: str, task: int) -> str:
            return self._truth(evidence.task(author, task))

        def audited(task: int) -> bool:
            salt = _salt(self._settings.seed, evidence.task("", task).question)
            return is_audit(salt, seed, self._recipe.audits.share)

        return Scene(
            seed=self._name,
            ordinal=number,
            rounds=self._settings.rounds,
            right=right,
            accomplices={slot.script.peer_id for slot in self._slots if slot.adversary},
            audited=audited if "seals" in self._settings.without else None,
        )

    def _stage(self, number: int, stage: Kind, make_record: Callable[[_Slot], AnyRecord], book: Book) -> dict[str, int]:
        """Commit, then reveal; how many groups each peer announced."""
        committed: list[tuple[_Slot, Received]] = []
        first: dict[str, RecordRow] = {}
        late = "commit" in self._settings.without
        # the adversaries come last: who waits sees more, if there is more to see
        for slot in sorted(self._slots, key=lambda slot: slot.adversary):
            exchange = slot.places[slot.script.peer_id]
            record = make_record(slot)
            slot.work[stage] += len(record.groups)
            committed.append((slot, exchange.commit(record)))
            if slot.script.equivocates and "consistency" not in self._settings.without:
                first[slot.script.peer_id] = committed[-1][1].row
                committed.append((slot, exchange.commit(record.model_copy(update={"salt": "0" * 32}))))
            if late and slot.script.reveals:
                book.add(record)
        for slot, commitment in committed:
            if slot.script.reveals or "reveal" in self._settings.without:
                slot.places[slot.script.peer_id].reveal(commitment)
        notes = self._author.announced(number, stage)
        shown = {peer for peer, (_, note) in notes.items() if BlobRef(note.sha256, note.size) in self._table.blobs}
        found = self._author.collect(number, stage, notes, shown)
        for received in found.values():
            book.add(received.record)
        for row in self._author.seen(stage, notes):
            body = found[row.peer_id].row.body if row.peer_id in found else b""
            self._witness(number, row, body, first.get(row.peer_id))
        return {peer: note.groups for peer, (_, note) in notes.items()}

    def _witness(self, number: int, row: RecordRow, body: bytes, other: RecordRow | None) -> None:
        """Note what everybody saw; of two different records each half of the peers saw one."""
        seen = _seen(number, row, bool(body))
        other_seen = _seen(number, other, True) if other else seen
        for index, witness in enumerate(self._seen):
            witness.append(other_seen if index % 2 else seen)
        self._bodies[number, row.stage, row.peer_id] = body  # type: ignore[index]

    def _answer_record(self, number: int, scene: Scene, slot: _Slot, book: Book) -> AnswerRecord:
        samples = self._recipe.stages.answer.samples
        if "commit" in self._settings.without:
            scene.visible = {
                author: [_texts(book, Item(author, g.task, 0)) for g in record.groups]
                for author, record in book.answers.items()
            }
        tasks = self._recipe.tasks.shared + self._recipe.tasks.own
        groups = tuple(
            AnswerGroup(
                task=task,
                rollouts=tuple(map(self._rollout, slot.script.answers(scene, task, samples))),
            )
            for task in range(tasks)
        )
        return AnswerRecord(**self._header(number, slot, "answer"), groups=groups)

    def _critique_record(
        self, number: int, scene: Scene, slot: _Slot, assigned: Mapping[Item, Sequence[str]], book: Book
    ) -> CritiqueRecord:
        me = slot.script.peer_id
        groups = []
        for item, judges in assigned.items():
            if me in judges and (answers := _texts(book, item)):
                raw = [
                    round(slot.script.verdict(scene, item.author, item.task, self._read(text)), 4) for text in answers
                ]
                groups.append(
                    CritiqueGroup(
                        author=item.author,
                        task=item.task,
                        sample=item.sample,
                        verdicts=tuple(raw),
                        rollouts=(self._rollout("It is so"),) * self._recipe.stages.critique.samples,
                    )
                )
        return CritiqueRecord(**self._header(number, slot, "critique"), groups=tuple(groups))

    def _read(self, text: str) -> str:
        """What a judge reads of an answer."""
        return text if "extraction" in self._settings.without else extract_answer(self._recipe.verifier, text) or ""

    def _open(self, number: int, seed: bytes, evidence: Evidence, book: Book) -> None:
        """The author of the recipe opens the audits of the round."""
        opened = []
        for task in range(self._recipe.tasks.shared + self._recipe.tasks.own):
            entry = evidence.task("", task)
            seal, salt = entry.entry.get("seal"), _salt(self._settings.seed, entry.question)
            if seal and seal not in self._spent and is_audit(salt, seed, self._recipe.audits.share):
                opened.append(OpenedItem(seal=seal, salt=salt, answer=self._truth(entry)))
                self._spent.add(seal)
        if opened:
            record = OpeningRecord(**self._envelope(number, self._author_id, "open"), groups=tuple(opened))
            received = self._author.commit(record)
            book.add(record)
            self._witness(number, received.row, received.row.body, None)

    def _label(self, number: int, book: Book, scene: Scene, calibration: Callable[[str], Calibration]) -> None:
        """What the jury says about each answer that was judged, before any of them is opened."""
        votes: dict[Answer, dict[str, float]] = defaultdict(dict)
        for judge, record in book.critiques.items():
            for group in record.groups:
                for sample, raw in enumerate(group.verdicts):
                    votes[number, group.author, group.task, sample][judge] = raw
        for answer, said in votes.items():
            _, author, task, sample = answer
            text = _texts(book, Item(author, task, sample))[sample]
            right = extract_answer(self._recipe.verifier, text) == scene.right(author, task)
            self._judged.append(Judged(answer, said, right))
            cast = [vote_of(calibration(judge), raw) for judge, raw in said.items()]
            self._labels[answer] = decide(cast).probability

    # settlement

    def _settle(self) -> dict[str, int]:
        """Points in millionths, by peer."""
        witnesses = [next(iter(slot.places)) for slot in self._slots[:_WITNESSES]]
        manifests = {}
        for peer, seen in zip(witnesses, self._seen, strict=False):
            manifest = Manifest(protocol=PROTOCOL, swarm=SWARM, epoch=0, since=0, peer_id=peer, seen=tuple(seen))
            manifests[peer] = SignedManifest(b"manifest of " + peer.encode(), manifest)
        basis = Basis(SWARM, self._recipe, 0, range(self._settings.rounds), None, None, self._seed)
        counted = counted_records(basis, manifests)
        return settle(basis, manifests, counted, lambda key, note: self._bodies.get(key)).points

    # small things

    def _truth(self, task: Task) -> str:
        if task.entry.get("seal") is None:
            return str(task.entry["answer"])
        one, other = task.question.removesuffix("?").split("What is ")[1].split(" + ")
        return str(int(one) + int(other))

    def _seed(self, number: int) -> bytes:
        return sha256(f"round {self._name} {number}".encode()).digest()

    def _envelope(self, number: int, peer_id: str, stage: Kind) -> dict[str, Any]:
        salt = sha256(f"{self._name} {number} {peer_id} {stage}".encode()).hexdigest()[:32]
        return {"protocol": PROTOCOL, "swarm": SWARM, "round": number, "peer_id": peer_id, "salt": salt}

    def _header(self, number: int, slot: _Slot, stage: Kind) -> dict[str, Any]:
        envelope = self._envelope(number, slot.script.peer_id, stage)
        return {**envelope, "model": "scripted", "fingerprint": "0" * 64, "tokenizer": "0" * 64}

    def _rollout(self, text: str) -> Rollout:
        tokens = tuple(text.encode()[:_MAX_TOKENS])
        return Rollout(tokens=tokens, logprobs=(-0.1,) * len(tokens), finished=True, text=text)


def _seen(number: int, row: RecordRow, held: bool) -> Seen:
    announcement = b64encode(row.announcement).decode()
    return Seen(round=number, stage=row.stage, author=row.peer_id, announcement=announcement, held=held)  # type: ignore[arg-type]


def _texts(book: Book, item: Item) -> list[str]:
    """The answers of an author to the task of an item; none where its record was not shown."""
    record = book.answers.get(item.author)
    groups = [group for group in record.groups if group.task == item.task] if record else []
    return [rollout.text for group in groups for rollout in group.rollouts]


def _salt(seed: int, prompt: str) -> str:
    return sha256(f"salt {seed} {prompt}".encode()).hexdigest()[:32]
