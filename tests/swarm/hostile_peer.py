"""A registered peer that does everything wrong: run as a process by test_hostile_peer.py.

It claims to play every round and never plays one: it announces garbage, a zip bomb, records of other peers as its own,
records beyond the recipe's limits, blobs that it does not serve, and as many announcements as it can.
"""

import json
import os
import sys
import time
import zlib
from pathlib import Path

from swarm.chain.client import Chain
from swarm.chain.registry import Registry
from swarm.identity.key import load_or_create
from swarm.network.blobs import BlobRef
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.round.presence import LIFETIME_S, SLOT
from swarm.round.records import AnswerRecord, LiveNote, StageNote, decode, encode
from swarm.round.wire import note_bytes, read_note


def bomb() -> bytes:
    squeeze = zlib.compressobj(9)
    return b"".join(squeeze.compress(bytes(2**20)) for _ in range(256)) + squeeze.flush()


class Hostile:
    def __init__(self, invite: Invite, home: Path) -> None:
        self.identity = load_or_create(home / "identity.key")
        self.registry = Registry(Chain(invite.chain_rpc), invite.contract)
        self.registry.register(self.identity)
        swarm = f"{invite.chain_id}:{self.registry.address}"
        self.network = Network.start(
            self.identity,
            home / "identity.key",
            swarm,
            blob_dir=home / "blobs",
            is_member=self.registry.is_registered,
            bootstrap=invite.bootstrap,
        )
        self.bomb = bomb()
        self.kinds = ["garbage", "bomb", "replay", "too long", "not served", "oversized note", "frozen"]
        self.turn = 0
        self.previous = -1

    def others(self) -> dict[str, LiveNote]:
        return {
            peer: read_note(LiveNote, announcement.value)
            for peer, announcement in self.network.read(SLOT).items()
            if peer != self.network.peer_id
        }

    def attack(self, number: int, victim: str, note: LiveNote) -> str:
        claim = note.model_copy(update={"name": "hostile", "round": number})
        self.network.announce(SLOT, note_bytes(claim), LIFETIME_S)
        kind = self.kinds[self.turn % len(self.kinds)]
        self.turn += 1
        for stage in ("answer", "critique", "revise"):
            value = self.value(kind, number, stage, victim)
            if value is not None:
                self.network.announce(f"{number}/{stage}", value, 60)
        self.previous = number
        self.network.announce(f"{number}/done", b'{"at": 1e300}' if kind == "garbage" else b'{"at":99999999999}', 60)
        for index in range(100):
            self.network.announce(f"{number + index}/answer-{index}", os.urandom(900), 30)
        return kind

    def value(self, kind: str, number: int, stage: str, victim: str) -> bytes | None:
        match kind:
            case "garbage":
                return self.note(os.urandom(5000))
            case "bomb":
                return self.note(self.bomb)
            case "not served":
                return note_bytes(StageNote(sha256="ab" * 32, size=100_000, groups=8))
            case "oversized note":
                return json.dumps({"sha256": "ab" * 32, "size": 2**40}).encode()
            case "replay" | "too long":
                # Nobody gives a record away before its stage is over, so the long one is made of an older one.
                source = number if kind == "replay" else self.previous
                deadline = time.monotonic() + 3
                while time.monotonic() < deadline and stage == "answer":
                    found = self.network.read(f"{source}/{stage}").get(victim)
                    if found is not None:
                        note = read_note(StageNote, found.value)
                        if kind == "replay":
                            return found.value
                        return self.too_long(number, self.network.fetch(BlobRef(note.sha256, note.size), [victim], 5))
                    time.sleep(0.1)
        return None

    def too_long(self, number: int, blob: bytes) -> bytes:
        record = decode("answer", blob)
        assert isinstance(record, AnswerRecord)
        group = record.groups[0]
        many = group.model_copy(update={"rollouts": group.rollouts * 10})
        own = {"peer_id": self.network.peer_id, "round": number, "groups": (many,)}
        return self.note(encode(record.model_copy(update=own)))

    def note(self, blob: bytes) -> bytes:
        reference = self.network.put(blob)
        return note_bytes(StageNote(sha256=reference.sha256, size=reference.size, groups=1))


def main() -> None:
    hostile = Hostile(Invite.decode(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps({"event": "ready", "peer_id": hostile.network.peer_id}), flush=True)
    last = -1
    while True:
        others = {peer: note for peer, note in hostile.others().items() if note.round > last}
        if others:
            victim, note = max(others.items(), key=lambda entry: entry[1].round)
            last = note.round
            print(json.dumps({"event": "attacked", "kind": hostile.attack(last, victim, note)}), flush=True)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
