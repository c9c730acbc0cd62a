"""A small swarm on disk: real rounds of the tiny model over an in-memory network, one of whose peers is hostile."""

import time
from dataclasses import asdict, replace
from pathlib import Path

from swarm.journal.journal import Journal
from swarm.journal.latest import Latest
from swarm.round.records import AnswerRecord, decode, encode
from tests.round.conftest import SEED, SWARM, make_bench

NAMES = ("amber-squid", "bold-trout", "<b>eve</b> \u202eevil\u200b")
DEVICES = ("CPU, 1 thread", "NVIDIA H100", "CPU, 1 thread")
HOSTILE = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'> \u202ertl\u202c zero\u200bwidth "
    "\x1b[31mred\x1b[0m \u05e2\u05d1\u05e8\u05d9\u05ea "
)
LONG = HOSTILE + "x" * (32_000 - len(HOSTILE))  # a record's text holds 32768 characters; longer ones are refused


class SmallSwarm:
    """Three peers whose homes lie below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = make_bench(3)
        self.peers = list(self.bench.drivers)
        self.journals = []
        self.ordinal = 0
        for peer_id, name, device in zip(self.peers, NAMES, DEVICES, strict=True):
            home = folder / f"peer-{len(self.journals) + 1}"
            home.mkdir(parents=True)
            journal = Journal(home / "journal.sqlite")
            chain_id, contract = SWARM.split(":")
            journal.put("recipe", self.bench.recipe.canonical().decode())
            journal.put("chain_id", chain_id)
            journal.put("contract", contract)
            said = Latest(journal)
            said({"event": "identity", "at": time.time(), "peer": name, "peer_id": peer_id})
            said({"event": "model", "at": time.time(), "peer": name, "model": "tiny", "device": device})
            self.journals.append(journal)

    def play(self) -> int:
        """One more round, in all journals; returns how many there are now."""
        started = time.time()
        outcomes = self.bench.play()
        self.ordinal += 1
        for journal, peer_id, name in zip(self.journals, self.peers, NAMES, strict=True):
            outcome, finished = outcomes[peer_id], time.time()
            Latest(journal)(
                {
                    "event": "round", "at": started, "peer": name, "round": self.ordinal, "ordinal": self.ordinal,
                    "ends": started + 30,
                }
            )  # fmt: skip
            Latest(journal)({"event": "stage", "at": finished, "peer": name, "stage": "update", "until": started + 30})
            journal.commit_round(
                self.ordinal, self.ordinal, started=started, finished=finished, seed=SEED, checkpoint="",
                report=asdict(outcome.report) | {"number": self.ordinal, "ordinal": self.ordinal},
                records=[self._hostile(row) for row in outcome.records], audits=outcome.audits,
            )  # fmt: skip
            journal.note_heldout(self.ordinal, finished, 20 + 2 * self.ordinal, 64)
        return self.ordinal

    def _hostile(self, row):
        """The last peer's first two answers as an attacker would have them."""
        if row.stage != "answer" or row.peer_id != self.peers[-1] or not row.body:
            return row
        record = decode("answer", row.body)
        assert isinstance(record, AnswerRecord)
        first = record.groups[0]
        rollouts = [replace_text(rollout, text) for rollout, text in zip(first.rollouts, (HOSTILE, LONG), strict=False)]
        group = first.model_copy(update={"rollouts": (*rollouts, *first.rollouts[2:])})
        return replace(row, body=encode(record.model_copy(update={"groups": (group, *record.groups[1:])})))

    def close(self) -> None:
        for journal in self.journals:
            journal.close()


def replace_text(rollout, text):
    return rollout.model_copy(update={"text": text})
