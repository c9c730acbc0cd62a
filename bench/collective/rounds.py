"""A round with all of a swarm's stages: answers, critiques and revisions, read and chosen by the swarm's own code."""

from collections import Counter
from collections.abc import Sequence

from bench.collective.peer import Peer, timed
from swarm.judging.calibration import UNPROVEN
from swarm.recipe.schema import Recipe
from swarm.round import stages
from swarm.round.assignment import Assigner
from swarm.round.evidence import Book
from swarm.round.experience import Reader, choose, training_group
from swarm.round.writing import RecordWriter
from swarm.training.learner import TrainingGroup

SWARM = "bench"
PEER_IDS = [f"16Uiu2HAm{letter * 44}" for letter in "ABCDEFGHJKLMNPQR"]


class WholeRound:
    """What the peers publish in a round, of which everybody has everything, and what each of them trains on.

    Critiques are rewarded as in a swarm: by what whoever trains on them makes of the judged answer after reading them.
    """

    def __init__(self, recipe: Recipe, assigner: Assigner, number: int, seed: bytes, peers: Sequence[Peer]) -> None:
        self._recipe = recipe
        self._seed = seed
        self._peers = peers
        self._ids = PEER_IDS[: len(peers)]
        self._book = Book()
        self.dropped: Counter[str] = Counter()
        """Groups that nobody trained on, by reason, over all peers."""
        writers = [RecordWriter(name, SWARM, peer.learner) for name, peer in zip(self._ids, peers, strict=True)]
        for me, (name, peer, writer) in enumerate(zip(self._ids, peers, writers, strict=True)):
            peer.sit_down()
            with timed(peer, "sample"):
                tasks = [self._reader(me).task(name, task) for task in range(recipe.tasks.shared + recipe.tasks.own)]
                answers = stages.answer(peer.learner, recipe, tasks, seed + name.encode())
            peer.generated += sum(map(len, answers))
            self._book.add(writer.answers(number, answers, "none"))
        assigned = assigner.draw(
            number, seed, {name: len(self._book.answers[name].groups) for name in self._ids}
        ).judges
        for me, (name, peer, writer) in enumerate(zip(self._ids, peers, writers, strict=True)):
            peer.sit_down()
            reader = self._reader(me)
            with timed(peer, "sample"):
                work = {
                    item: (reader.task(item.author, item.task), reader.answer_texts(item.author, item.task))
                    for item, judges in assigned.items()
                    if name in judges
                }
                critiques = stages.critique(peer.learner, recipe, work, seed + name.encode())
            peer.generated += sum(len(piece.completions) for piece in critiques)
            self._book.add(writer.critiques(number, critiques, "none"))
        for me, (name, peer, writer) in enumerate(zip(self._ids, peers, writers, strict=True)):
            peer.sit_down()
            reader = self._reader(me)
            with timed(peer, "sample"):
                items = reader.criticised(name, assigned)
                pieces = [
                    (reader.task(name, item.task), reader.answer_texts(name, item.task)[item.sample], [*texts.values()])
                    for item, texts in items
                ]
                revisions = stages.revise(peer.learner, recipe, pieces, seed + name.encode())
            peer.generated += sum(map(len, revisions))
            self._book.add(writer.revisions(number, items, revisions, "none"))

    def _reader(self, me: int) -> Reader:
        return Reader(self._peers[me].learner, self._recipe, self._seed, self._book, lambda judge: UNPROVEN)

    def rewards(self, me: int) -> list[list[float]]:
        """The rewards of a peer's answers, by task."""
        return [list(group.rewards) for group in self._reader(me).groups(self._book.answers[self._ids[me]])]

    def batch(self, me: int, fetched: int) -> list[TrainingGroup]:
        """What a peer trains on, which has just sat down: its own groups and up to `fetched` others."""
        name, reader = self._ids[me], self._reader(me)
        own = reader.own(name)
        chosen = choose(self._recipe, self._seed, name, own, reader.fetched(name), reader.dropped, fetched)
        self.dropped += reader.dropped
        return [training_group(self._recipe, group, name) for group in chosen]
