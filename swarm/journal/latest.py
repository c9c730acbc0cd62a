"""The latest event of each kind, in the journal: what a peer does now, for whoever watches from another process."""

import json
import logging
import sqlite3

from swarm.events import Event
from swarm.journal.journal import Journal

logger = logging.getLogger(__name__)

PREFIX = "latest/"
"""Of the keys in the table `meta`; after it comes the kind of the event."""
KINDS = frozenset("identity model peers gathering measuring round stage waiting announced finished stopped".split())


class Latest:
    """A sink that keeps the latest event of each kind, without the summary."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __call__(self, event: Event) -> None:
        if event["event"] in KINDS:
            kept = {key: value for key, value in event.items() if key != "summary"}
            try:
                self._journal.put(PREFIX + event["event"], json.dumps(kept))
            except sqlite3.Error as error:  # a watcher's news is not worth a round
                logger.warning("the event %s was not noted: %s", event["event"], error)
