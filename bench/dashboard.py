"""python -m bench.dashboard: how fast the dashboard answers over the journal of a large and old swarm.

Written to bench/results/dashboard.md. The journal is synthetic: rounds, announcements and audits as a peer writes them,
of a swarm of 1000 peers of whom each round has some. Only the newest rounds have signed announcements and records, as
nothing reads those of older ones unless their page is opened.
"""

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
from aiohttp.test_utils import TestClient, TestServer

from bench.machine import describe
from swarm import PROTOCOL
from swarm.dashboard.board import Board
from swarm.dashboard.recount import ROUNDS as RECOUNTED
from swarm.dashboard.server import make_app
from swarm.identity.key import Identity
from swarm.identity.names import name_of
from swarm.journal.journal import AuditRow, Journal, RecordRow
from swarm.journal.latest import PREFIX
from swarm.network.announcements import encode_record, make
from swarm.network.blobs import BlobRef
from swarm.recipe import catalogue
from swarm.recipe.schema import Recipe
from swarm.round.home import JOURNAL_NAME
from swarm.round.records import AnswerGroup, AnswerRecord, Rollout, StageNote, encode
from swarm.round.wire import note_bytes

RESULT = Path(__file__).parent / "results" / "dashboard.md"
SWARM = "1:0xbench"
ROUNDS = 10_000
PEERS = 1_000
PER_ROUND = 30
"""Peers whose announcements a round has."""
HELD = 5
"""Of them, peers whose records are here."""
JUDGES, AUDITS = 8, 6
"""Judges whose audits a round has, and how many of each."""
TIMES = 5
"""Requests of each kind; the median is reported."""
STAGES = ("answer", "critique", "revise")


def build(home: Path, recipe: Recipe) -> None:
    """Write the journal of the first peer."""
    chance = random.Random(1)
    identities = [Identity(number.to_bytes(32, "big")) for number in range(1, PEERS + 1)]
    me = identities[0].peer_id
    with closing(Journal(home / JOURNAL_NAME)) as journal:
        chain_id, contract = SWARM.split(":")
        journal.put("chain_id", chain_id)
        journal.put("contract", contract)
        journal.put("recipe", recipe.canonical().decode())
        journal.put(PREFIX + "identity", json.dumps({"at": 0.0, "peer": name_of(me), "peer_id": me}))
        here = {it.peer_id: {"name": name_of(it.peer_id), "model": "m", "device": "CPU"} for it in identities[1:]}
        news = {"at": time.time(), "peers": {peer: {**about, "tokens_per_s": 9.0} for peer, about in here.items()}}
        journal.put(PREFIX + "peers", json.dumps(news))
        journal._database.execute("PRAGMA synchronous = OFF")  # ten thousand rounds without waiting for the disk
        start = time.time() - ROUNDS * recipe.timing.round_s
        for ordinal in range(1, ROUNDS + 1):
            number = ordinal * recipe.timing.round_s
            some = [identities[0], *chance.sample(identities[1:], PER_ROUND - 1)]
            newest = ordinal > ROUNDS - RECOUNTED
            journal.commit_round(
                number,
                ordinal,
                started=start + number,
                finished=start + number + 20,
                seed=chance.randbytes(32),
                checkpoint="",
                report=report(number, ordinal, chance),
                records=records(recipe, number, some, newest, chance),
                audits=[
                    AuditRow(judge.peer_id, some[-1].peer_id, task, 0, chance.gauss(0, 2), chance.random() < 0.5)
                    for judge in some[:JUDGES]
                    for task in range(AUDITS)
                ],
            )
            if ordinal % 5 == 0:
                journal.note_heldout(ordinal, start + number, min(60, 16 + ordinal // 300), 64)


def report(number: int, ordinal: int, chance: random.Random) -> dict[str, Any]:
    """As `RoundReport` is written; the driver, where it is, needs torch."""
    rewards = {stage: round(chance.random(), 4) for stage in STAGES}
    return {
        "number": number, "ordinal": ordinal, "reward": rewards["answer"], "rewards": rewards,
        "partners": PER_ROUND - 1, "rollouts_published": 240, "rollouts_fetched": 480, "critiques": 32, "verdicts": 32,
        "revisions": 16, "groups_trained": 35, "groups_fetched": 16, "dropped": {"all right": 4, "other": 9},
        "refused": {"not delivered": 1} if chance.random() < 0.1 else {}, "updated": True,
        "update": {"loss": 0.1, "grad_norm": 0.9, "groups": 35, "mean_ratio_drift": 1e-6}, "generated_tokens": 1000,
        "seconds": {"answer": 4.0, "wait": 2.0, "critique": 2.0, "revise": 2.0, "update": 5.0},
        "points": round(10 * chance.random(), 6), "informedness": 0.2, "why_nothing": None,
    }  # fmt: skip


def records(
    recipe: Recipe, number: int, authors: list[Identity], newest: bool, chance: random.Random
) -> Iterator[RecordRow]:
    for place, author in enumerate(authors):
        for stage in STAGES:
            blob = b""
            if newest and stage == "answer" and place < HELD:
                blob = encode(answers(recipe, number, author.peer_id, chance))
            note = StageNote(sha256=BlobRef.of(blob or chance.randbytes(8)).sha256, size=max(1, len(blob)), groups=24)
            announcement = bytes(185)
            if newest:
                said = make(author, SWARM, f"{number}/{stage}", note_bytes(note), expiry_ms=2_000_000_000_000)
                announcement = encode_record(said)
            yield RecordRow(stage, author.peer_id, note.sha256, announcement, blob)


def answers(recipe: Recipe, number: int, author: str, chance: random.Random) -> AnswerRecord:
    rollout = Rollout(tokens=(1, 2, 3), logprobs=(-0.1, -0.2, -0.3), finished=True, text=str(chance.random())[2:5])
    groups = tuple(
        AnswerGroup(task=task, rollouts=(rollout,) * recipe.stages.answer.samples)
        for task in range(recipe.tasks.shared + recipe.tasks.own)
    )
    header = {"protocol": PROTOCOL, "swarm": SWARM, "round": number, "peer_id": author, "model": "m"}
    return AnswerRecord(
        **header, salt=chance.randbytes(16).hex(), fingerprint="0" * 64, tokenizer="0" * 64, groups=groups
    )


async def measure(board: Board) -> list[tuple[str, float, float, int]]:
    """Per path: seconds of the first answer after a change, the median of later ones, and bytes."""
    peer_id = board.watch.histories[0].peer_id
    other = next(peer for peer in board.watch.histories[0].seen if peer != peer_id)
    newest = board.watch.histories[0].rounds[-1].number
    paths = [
        "/", "/api/status", "/api/leaderboard", f"/api/peers/{peer_id}", f"/api/peers/{other}", "/api/rounds",
        f"/api/rounds?before={newest // 2}", f"/api/rounds/{newest}", "/api/learning", "/api/trust", "/metrics",
        "/api/leaderboard.csv", "/api/rounds.csv", "/api/learning.csv",
    ]  # fmt: skip
    found = []
    async with TestClient(TestServer(make_app(board, host="127.0.0.1", token=None))) as client:
        for path in paths:
            seconds = []
            for _ in range(TIMES + 1):
                started = time.perf_counter()
                response = await client.get(path)
                size = len(await response.read())
                seconds.append(time.perf_counter() - started)
                assert response.status == 200, (path, response.status)
            shown = path.replace(str(peer_id), "{its own}").replace(other, "{another}")
            found.append((shown, seconds[0], statistics.median(seconds[1:]), size))
    return found


async def while_reading(board: Board) -> float:
    """The longest that a status took while the journal was read for the first time."""
    async with TestClient(TestServer(make_app(board, host="127.0.0.1", token=None))) as client:
        reading = asyncio.create_task(asyncio.to_thread(board.refresh))
        worst = 0.0
        while not reading.done():
            started = time.perf_counter()
            assert (await client.get("/api/status")).status == 200
            worst = max(worst, time.perf_counter() - started)
            await asyncio.sleep(0.05)
        await reading
    return worst


def main() -> int:
    recipe = catalogue.find("tiny")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        build(Path(folder), recipe)
        print(f"the journal was written in {time.perf_counter() - started:.0f} s", flush=True)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        board = Board(Path(folder))
        before, started = psutil.Process().memory_info().rss, time.perf_counter()
        worst = asyncio.run(while_reading(board))
        first = time.perf_counter() - started
        used = psutil.Process().memory_info().rss - before
        rows = asyncio.run(measure(board))
        while board.refresh():
            pass
        recounted = time.perf_counter() - started
    lines = [
        "# The dashboard over a large journal",
        "",
        "`python -m bench.dashboard`",
        "",
        describe().rstrip(),
        f"- load average at the end: {os.getloadavg()[0]:.1f}",
        f"- one journal of {ROUNDS:,} rounds and {size / 2**20:.0f} MiB: {PEERS:,} peers, of whom each round has "
        f"{PER_ROUND} with 3 announcements each, and {JUDGES} judges with {AUDITS} audits each",
        f"- read once at the start: {first:.1f} s, {used / 2**20:.0f} MiB of memory; then only what is new",
        f"- the slowest `/api/status` meanwhile: {worst:.2f} s",
        f"- points of others in the newest {RECOUNTED} rounds recomputed, beside: all after {recounted:.0f} s",
        "",
        "| path | first answer, s | later ones, s | KiB |",
        "|---|---|---|---|",
        *(f"| `{path}` | {first:.3f} | {later:.3f} | {size / 1024:.0f} |" for path, first, later, size in rows),
    ]
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
