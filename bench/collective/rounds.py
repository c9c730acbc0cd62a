"""A round with all of a swarm's stages: answers, critiques and revisions, read and chosen by the swarm's own code."""

from collections.abc import Callable, Sequence

from bench.collective.peer import Peer, timed
from swarm.judging.calibration import UNPROVEN
from swarm.recipe.schema import Recipe
from swarm.round import stages
from swarm.round.assignment import Assigner
from swarm.round.evidence import Book
from swarm.round.experience import Reader, choose, training_group
from swarm.round.records import AnswerRecord, CritiqueRecord, RevisionRecord, StageRecord
from swarm.round.writing import RecordWriter
from swarm.training.learner import Learner, TrainingGroup

SWARM = "bench"
PEER_IDS = [f"16Uiu2HAm{letter * 44}" for letter in "ABCDEFGHJKLMNPQR"]


class WholeRound:
    """What the peers publish in a round, of which everybody has everything, and what each of them trains on.

    Critiques are rewarded as in a swarm: by what whoever trains on them makes of the judged answer after reading them.
    """

    def __init__(self, recipe: Recipe, assigner: Assigner, number: int, seed: bytes, peers: Sequence[Peer]) -> None:
        self._recipe = recipe
        self._number = number
        self._seed = seed
        self._peers = dict(zip(PEER_IDS[: len(peers)], peers, strict=True))
        self._book = Book()
        self._each(self._answer)
        roster = {name: len(record.groups) for name, record in self._book.answers.items()}
        self._assigned = assigner.draw(number, seed, roster).judges
        self._each(self._criticise)
        self._each(self._revise)

    def _each(self, stage: Callable[[str, Learner, Reader, RecordWriter], StageRecord]) -> None:
        """A stage of all peers, each with its own weights; then all have the records of all."""
        records = []
        for name, peer in self._peers.items():
            peer.sit_down()
            with timed(peer, "sample"):
                record = stage(name, peer.learner, self._reader(name), RecordWriter(name, SWARM, peer.learner))
            peer.generated += sum(len(group.rollouts) for group in record.groups)
            records.append(record)
        for record in records:
            self._book.add(record)

    def _answer(self, name: str, learner: Learner, reader: Reader, writer: RecordWriter) -> AnswerRecord:
        tasks = [reader.task(name, task) for task in range(self._recipe.tasks.shared + self._recipe.tasks.own)]
        answers = stages.answer(learner, self._recipe, tasks, self._seed + name.encode())
        return writer.answers(self._number, answers, "none")

    def _criticise(self, name: str, learner: Learner, reader: Reader, writer: RecordWriter) -> CritiqueRecord:
        work = reader.to_judge(name, self._assigned)
        critiques = stages.critique(learner, self._recipe, work, self._seed + name.encode())
        return writer.critiques(self._number, critiques, "none")

    def _revise(self, name: str, learner: Learner, reader: Reader, writer: RecordWriter) -> RevisionRecord:
        items = reader.criticised(name, self._assigned)
        revisions = stages.revise(learner, self._recipe, reader.to_revise(name, items), self._seed + name.encode())
        return writer.revisions(self._number, items, revisions, "none")

    def _reader(self, name: str) -> Reader:
        return Reader(self._peers[name].learner, self._recipe, self._seed, self._book, lambda judge: UNPROVEN)

    def rewards(self) -> list[list[list[float]]]:
        """The rewards of the answers, by peer and task."""
        return [
            [list(group.rewards) for group in self._reader(name).groups(record)]
            for name, record in self._book.answers.items()
        ]

    def batch(self, me: int, fetched: int) -> list[TrainingGroup]:
        """What a peer trains on, which has just sat down: its own groups and up to `fetched` others."""
        name = PEER_IDS[me]
        reader = self._reader(name)
        chosen = choose(self._recipe, self._seed, name, reader.own(name), reader.fetched(name), reader.dropped, fetched)
        return [training_group(self._recipe, group, name) for group in chosen]
