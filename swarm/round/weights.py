"""Weights that peers sample with, published so that others can replay what was sampled (`audits.publish_weights`)."""

import logging
from collections.abc import Callable, Collection
from typing import Annotated

from pydantic import Field

from swarm.network.blobs import MAX_BLOB_BYTES, BlobRef
from swarm.network.node import Network
from swarm.recipe.schema import Recipe
from swarm.round.assignment import draw
from swarm.round.clock import lifetime_s
from swarm.round.records import AnswerRecord
from swarm.round.wire import Digest, RecordRefused, Wire, note_bytes, read_note
from swarm.training.learner import Learner
from swarm.training.wire import WeightsRefused

logger = logging.getLogger(__name__)

SLOT = "weights"
"""One slot for all rounds: who samples with the same weights again need not say so again."""
MAX_FETCH_S = 40.0
FETCH_SHARE = 0.1
"""Seconds to fetch weights, as a share of the round, up to MAX_FETCH_S."""


class WeightsNote(Wire):
    """The value of the announcement of the weights that a peer samples with."""

    fingerprint: Digest
    sha256: Digest
    size: Annotated[int, Field(gt=0, le=MAX_BLOB_BYTES)]


class WeightsExchange:
    """One peer's side of it."""

    def __init__(self, *, peer_id: str, recipe: Recipe, learner: Learner, network: Network) -> None:
        self._peer_id = peer_id
        self._learner = learner
        self._network = network
        self._lifetime_s = lifetime_s(recipe.timing)
        self._fetch_s = min(MAX_FETCH_S, FETCH_SHARE * recipe.timing.round_s)

    def publish(self) -> None:
        """Give everybody the present weights, unless they are too many for a blob."""
        if not self._learner.can_publish:
            return
        reference = self._network.put(self._learner.weights())
        note = WeightsNote(fingerprint=self._learner.fingerprint, sha256=reference.sha256, size=reference.size)
        self._network.announce(SLOT, note_bytes(note), self._lifetime_s)

    def drawn(self, seed: bytes, authors: Collection[str]) -> str | None:
        """The author whose answers this peer replays in a round, so that all of them are looked at by somebody."""
        return min(authors, key=lambda author: draw(seed, "weights", self._peer_id, author), default=None)

    def check(self, record: AnswerRecord, replay: Callable[[], str | None]) -> str | None:
        """What does not hold of a record under the weights that it names; None where all does, or they are not here.

        Args:
            replay: looks at the record with whatever weights the learner has when it is called.
        """
        author = record.peer_id
        blob = self._fetch(author, record.fingerprint)
        if blob is None:
            logger.info("the weights of %s are not to be had, so its answers were not replayed", author)
            return None
        try:
            with self._learner.with_weights(blob):
                if self._learner.fingerprint != record.fingerprint:
                    return "the weights that it published are not those that it names"
                wrong = replay()
        except WeightsRefused as error:
            return f"it published {error}"
        logger.info("replayed answers of %s under its own weights: %s", author, wrong or "all holds")
        return wrong

    def _fetch(self, author: str, fingerprint: str) -> bytes | None:
        try:
            announcement = self._network.read(SLOT).get(author)
            note = None if announcement is None else read_note(WeightsNote, announcement.value)
        except (TimeoutError, OSError, RuntimeError, RecordRefused) as error:
            logger.warning("the announcement of the weights of %s was not read: %r", author, error)
            return None
        if note is None or note.fingerprint != fingerprint or note.size > self._learner.max_weights_bytes:
            return None
        reference = BlobRef(note.sha256, note.size)
        return self._network.fetch_many({reference: [author]}, self._fetch_s).get(reference)
