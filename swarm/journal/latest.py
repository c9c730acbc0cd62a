"""The latest event of each kind, in the journal: what a peer does now, for whoever watches from another process."""

import json
import logging
import sqlite3
from typing import Any

from swarm.events import Event
from swarm.journal.journal import Journal

logger = logging.getLogger(__name__)

PREFIX = "latest/"
"""Of the keys in the table `meta`; after it comes the kind of the event."""
SETTLEMENTS = "settlements"
"""After the prefix: the newest settlements that this peer saw on the chain, by epoch."""
ON_CHAIN = frozenset(("posted", "final", "frozen"))
MAX_SETTLEMENTS = 50
KINDS = frozenset(
    "identity model peers gathering measuring round stage waiting announced twin finished stopped".split()
)


class Latest:
    """A sink that keeps the latest event of each kind, without the summary."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __call__(self, event: Event) -> None:
        try:
            if event["event"] in KINDS:
                self._note(event["event"], {key: value for key, value in event.items() if key != "summary"})
            elif event["event"] == "settlement" and event["state"] in ON_CHAIN:
                self._note_settlement(event)
        except sqlite3.Error as error:  # a watcher's news is not worth a round
            logger.warning("the event %s was not noted: %s", event["event"], error)

    def _note_settlement(self, event: Event) -> None:
        """Its state now; and as it was posted: when, and what it was."""
        known = json.loads(self._journal.get(PREFIX + SETTLEMENTS) or "{}")
        posted = {"at": event["at"], "data_hash": event.get("data_hash")}
        known[str(event["epoch"])] = {**posted, **known.get(str(event["epoch"]), {}), "state": event["state"]}
        newest = sorted(known, key=int)[-MAX_SETTLEMENTS:]
        self._note(SETTLEMENTS, {epoch: known[epoch] for epoch in newest})

    def _note(self, key: str, value: dict[str, Any]) -> None:
        self._journal.put(PREFIX + key, json.dumps(value))
