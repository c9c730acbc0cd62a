"""Signed records in the journals: those of one peer, and those that contradict each other."""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

from swarm.dashboard.books import announcement_of
from swarm.dashboard.history import History, JournalUnreadable
from swarm.round.clock import lifetime_s

logger = logging.getLogger(__name__)

Json = dict[str, Any]

MAX_RECORDS = 50
MAX_LOOK_BACK = 2_000
"""Rounds in which a peer's newest records are looked for."""
EQUIVOCATION_ROUNDS = 100


def records_of(history: History, peer_id: str) -> list[Json]:
    """A peer's newest records with its signatures, the newest first."""
    oldest = history.rounds[-MAX_LOOK_BACK:][0].number if history.rounds else 0
    swarm, recipe = history.swarm or "", history.recipe
    with history.reading() as database:
        rows = database.execute(
            "SELECT round, stage, sha256, announcement, length(body) > 0 FROM records "
            "WHERE peer_id = ? AND round >= ? ORDER BY round DESC, stage DESC LIMIT ?",
            (peer_id, oldest, MAX_RECORDS),
        ).fetchall()
    records = []
    for number, stage, sha256, raw, held in rows:
        said = announcement_of(swarm, peer_id, raw)
        records.append(
            {
                "round": number,
                "stage": stage,
                "sha256": sha256,
                "signature": said.signature.hex() if said else None,
                "announced": said.expires - lifetime_s(recipe.timing) if said and recipe else None,
                "held": bool(held),
            }
        )
    return records


def equivocations(histories: Sequence[History]) -> list[Json]:
    """Peers that signed two records for one round and stage: the proofs that peers kept, and what two journals of their
    newest rounds show."""
    found = {
        (proof["round"], proof["stage"], proof["peer_id"]): proof for history in histories for proof in _kept(history)
    }
    return list({**_compared(histories), **found}.values())[:MAX_RECORDS]


def _kept(history: History) -> list[Json]:
    """The newest proofs in a journal; none in those of a version that keeps none."""
    try:
        with history.reading() as database:
            rows = database.execute(
                "SELECT round, slot, peer_id, first, second FROM equivocations ORDER BY round DESC LIMIT ?",
                (MAX_RECORDS,),
            ).fetchall()
    except JournalUnreadable as error:
        if "no such table" not in str(error):
            logger.info("proofs of equivocation were not read: %s", error)
        return []
    return [
        {
            "round": number,
            "stage": str(slot).rpartition("/")[2],
            "peer_id": peer_id,
            "sha256": [_fingerprint(first), _fingerprint(second)],
        }
        for number, slot, peer_id, first, second in rows
    ]


def _fingerprint(announcement: bytes | str) -> str:
    """SHA-256 of an announcement as it was signed; a journal may keep the fingerprint itself."""
    return hashlib.sha256(announcement).hexdigest() if isinstance(announcement, bytes) else announcement


def _compared(histories: Sequence[History]) -> dict[tuple[int, str, str], Json]:
    seen: dict[tuple[int, str, str], str] = {}
    found: dict[tuple[int, str, str], Json] = {}
    for history in histories if len(histories) > 1 else ():
        oldest = history.rounds[-EQUIVOCATION_ROUNDS:][0].number if history.rounds else 0
        try:
            with history.reading() as database:
                rows = database.execute(
                    "SELECT round, stage, peer_id, sha256 FROM records WHERE round >= ?", (oldest,)
                ).fetchall()
        except JournalUnreadable as error:
            logger.info("records were not compared: %s", error)
            continue
        for number, stage, peer_id, sha256 in rows:
            first = seen.setdefault((number, stage, peer_id), sha256)
            if first != sha256:
                found[number, stage, peer_id] = {
                    "round": number, "stage": stage, "peer_id": peer_id, "sha256": [first, sha256],
                }  # fmt: skip
    return found
