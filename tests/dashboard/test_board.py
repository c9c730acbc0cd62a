"""What the API says of real journals, whole and broken."""

import json
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from swarm import PROTOCOL
from swarm.chain.settlements import Outcome, Settlement
from swarm.dashboard.board import Board
from swarm.dashboard.onchain import Posted, Standing, _posting, place_of
from swarm.events import Emitter
from swarm.identity.key import SIGNATURE_BYTES, Identity
from swarm.journal.journal import Journal
from swarm.journal.latest import Latest
from swarm.network.announcements import encode_record, make
from swarm.network.blobs import BlobRef
from swarm.recipe import catalogue
from swarm.recipe.load import parse_recipe
from swarm.recipe.tasks import shared_tasks
from swarm.recipe.verifiers import verify
from swarm.round.records import OpeningRecord, StageNote, decode, encode
from swarm.round.wire import note_bytes
from swarm.settlement import documents
from swarm.settlement.documents import Statement
from tests.dashboard.asking import ask, board_of, body, live_board_of
from tests.dashboard.conftest import ROUNDS
from tests.round.conftest import SEED, SWARM
from tests.round.sealed import sealed_recipe

HOSTILE = "<script>alert(1)</script>\u202e\u200b\x1b[31m" + "x" * 30_000


@pytest.fixture(scope="module")
def board(played):
    return board_of(played)


def reports(folder, home):
    with closing(sqlite3.connect(folder / home / "journal.sqlite")) as database:
        return [json.loads(row[0]) for row in database.execute("SELECT report FROM rounds ORDER BY ordinal")]


def change(folder, home, sql, *values):
    with closing(sqlite3.connect(folder / home / "journal.sqlite")) as database, database:
        database.execute(sql, values)


def test_status(played):
    status = body(live_board_of(played), "/api/status")
    assert [home["path_name"] for home in status["homes"]] == ["peer-1", "peer-2", "peer-3"]
    assert all(home["ok"] and home["peer_id"] for home in status["homes"])
    assert status["swarm"] == SWARM and status["recipe"]["name"] == "tiny"
    assert status["round"]["ordinal"] == ROUNDS
    assert len(status["peers_present"]) == 3 and status["live"]
    assert status["heldout"] == {"now": 0.5, "start": 0.25, "n": 64, "curve": [[0, 0.25], [ROUNDS, 0.5]]}
    assert status["chain"]["rpc_host"] == "127.0.0.1:9" and "secret" not in json.dumps(status)


def test_a_swarm_that_has_been_silent_for_two_rounds_is_not_live(homes):
    long_ago = time.time() - 2 * catalogue.find("tiny").timing.round_s
    for file in homes.rglob("journal.sqlite*"):
        os.utime(file, (long_ago, long_ago))
    status = body(board_of(homes), "/api/status")
    assert not status["peers_present"] and not status["live"]


def test_points_are_those_of_the_journals(board, played):
    rows = {row["peer_id"]: row for row in body(board, "/api/leaderboard")["rows"]}
    assert len(rows) == 3 and sorted(row["rank"] for row in rows.values()) == [1, 2, 3]
    for home in board.watch.histories:
        earned = [report["points"] for report in reports(played, home.home.name)]
        row = rows[home.peer_id]
        assert row["points"] == pytest.approx(sum(earned)) and row["spark"] == pytest.approx(earned, abs=1e-3)
        assert row["streak"] == ROUNDS and row["share_audited"] == 1
        assert row["heldout"] == {"before": 0.25, "after": 0.5}


def test_one_journal_is_enough_to_recompute_what_the_others_earned(board, played):
    alone = board_of(played / "peer-1")
    every = {row["peer_id"]: row for row in board.leaderboard()["rows"]}
    found = {row["peer_id"]: row for row in alone.leaderboard()["rows"]}
    assert set(found) == set(every)
    for peer_id, row in found.items():
        for key in ("points", "pending", "reward", "spark", "streak", "critiques", "model", "name"):
            assert row[key] == pytest.approx(every[peer_id][key], abs=1e-4), key


def test_a_peers_page(board):
    row = board.leaderboard()["rows"][0]
    page = body(board, f"/api/peers/{row['peer_id']}")
    assert page["address"].startswith("0x") and page["registered"] is None
    assert [found["ordinal"] for found in page["rounds"]] == [1, 2, 3]
    assert page["heldout"] == [[0, 16, 64], [ROUNDS, 32, 64]]
    assert page["calibration"]["audits"] == sum(count for _, _, count in page["calibration"]["bins"]) > 0
    assert len(page["records"]) == 3 * ROUNDS
    assert all(len(record["signature"]) == 2 * SIGNATURE_BYTES and record["held"] for record in page["records"])
    for peer_id in ("nobody", "x" * 500, "%00"):
        status, _, found = ask(board, f"/api/peers/{peer_id}")
        assert status == 404 and found["error"] == "no journal here knows this peer"


def test_rounds_come_in_pages(board):
    first = body(board, "/api/rounds?limit=2")
    assert [row["number"] for row in first["rows"]] == [2, 1] and first["more"]
    rest = body(board, "/api/rounds?limit=2&before=1")
    assert [row["number"] for row in rest["rows"]] == [0] and not rest["more"]
    assert rest["rows"][0]["peers"] == 3
    for query in ("limit=-1", "before=x", "before=99999999999999999999"):
        assert ask(board, f"/api/rounds?{query}")[0] == 400


def test_a_round_is_what_its_records_say(board):
    page = body(board, "/api/rounds/2")
    recipe = board.watch.histories[0].recipe
    shared = [task for task in page["tasks"] if task["shared"]]
    assert len(shared) == recipe.tasks.shared and len(page["tasks"]) == recipe.tasks.shared + 3 * recipe.tasks.own
    for task, derived in zip(shared, shared_tasks(recipe, SEED), strict=True):
        assert task["question"] == derived.question and task["truth"] == derived.entry["answer"]
        assert len(task["answers"]) == 3 * recipe.stages.answer.samples
        for answer in task["answers"]:
            assert answer["reward"] == verify(recipe, derived, answer["text"])
    critiques = [critique for task in page["tasks"] for critique in task["critiques"]]
    assert critiques and all(critique["judge"] != critique["author"] for critique in critiques)
    assert all(len(critique["probabilities"]) == recipe.stages.answer.samples for critique in critiques)
    revisions = [revision for task in page["tasks"] for revision in task["revisions"]]
    assert revisions and all(revision["was"] is not None for revision in revisions)
    assert len(page["feed"]) == 9 and page["left_out"] == 0
    assert ask(board, "/api/rounds/77")[0] == 404


def test_a_hostile_answer_is_passed_as_text(homes):
    identity = Identity(bytes([1]) * 32)
    with closing(sqlite3.connect(homes / "peer-2" / "journal.sqlite")) as database:
        (blob,) = database.execute(
            "SELECT body FROM records WHERE round = 2 AND stage = 'answer' AND peer_id = ?", (identity.peer_id,)
        ).fetchone()
    record = decode("answer", blob)
    first = record.groups[0]
    evil = first.rollouts[0].model_copy(update={"text": HOSTILE})
    group = first.model_copy(update={"rollouts": (evil, *first.rollouts[1:])})
    blob = encode(record.model_copy(update={"groups": (group, *record.groups[1:])}))
    note = StageNote(sha256=BlobRef.of(blob).sha256, size=len(blob), groups=len(record.groups))
    said = encode_record(make(identity, SWARM, "2/answer", note_bytes(note), expiry_ms=2_000_000_000_000))
    change(
        homes, "peer-2",
        "UPDATE records SET body = ?, sha256 = ?, announcement = ? "
        "WHERE round = 2 AND stage = 'answer' AND peer_id = ?",
        blob, note.sha256, said, identity.peer_id,
    )  # fmt: skip
    board = board_of(homes / "peer-2")
    status, headers, page = ask(board, "/api/rounds/2")
    texts = [answer["text"] for task in page["tasks"] for answer in task["answers"]]
    assert status == 200 and HOSTILE in texts
    assert headers["Content-Type"].startswith("application/json") and headers["X-Content-Type-Options"] == "nosniff"
    found = body(board_of(homes), "/api/trust")["equivocations"]
    assert [(it["round"], it["stage"], it["peer_id"]) for it in found] == [(2, "answer", identity.peer_id)]


def test_garbage_in_a_record_costs_only_that_record(homes):
    change(homes, "peer-1", "UPDATE records SET body = x'00ff' WHERE stage = 'critique'")
    change(homes, "peer-1", "UPDATE records SET announcement = x'00' WHERE stage = 'revise'")
    board = board_of(homes / "peer-1")
    page = body(board, "/api/rounds/1")
    assert page["tasks"] and not any(task["critiques"] for task in page["tasks"]) and len(page["feed"]) == 6
    peer_id = board.watch.histories[0].peer_id
    assert body(board, f"/api/peers/{peer_id}")["records"][0]["signature"] is None


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda file: file.write_bytes(b"not a database" * 1000), "file is not a database"),
        (lambda file: file.write_bytes(b""), "no such table"),
        (lambda file: change(file.parents[1], "peer-2", "PRAGMA user_version = 99"), "version 99"),
        (lambda file: change(file.parents[1], "peer-2", "UPDATE rounds SET report = '{]'"), "no journal holds"),
        (lambda file: change(file.parents[1], "peer-2", "UPDATE meta SET value = '{}' WHERE key = 'recipe'"), "recipe"),
    ],
)
def test_a_journal_that_cannot_be_read_is_told_and_the_rest_goes_on(homes, spoil, why):
    spoil(homes / "peer-2" / "journal.sqlite")
    board = board_of(homes)
    status = body(board, "/api/status")
    assert [home["ok"] for home in status["homes"]] == [True, False, True]
    (stale,) = [part for part in status["stale"] if part["part"] == "journal of peer-2"]
    assert why in stale["why"] and stale["since"] is not None
    assert len(body(board, "/api/leaderboard")["rows"]) == 3
    for path in ("/api/rounds", "/api/rounds/1", "/api/learning", "/api/trust", "/metrics"):
        assert ask(board, path)[0] == 200, path


def test_a_journal_that_breaks_later_stays_as_it_was_and_may_come_back(homes, monkeypatch):
    monkeypatch.setattr("swarm.dashboard.history.RETRY_S", 0)
    board = board_of(homes / "peer-1")
    before = body(board, "/api/leaderboard")
    file = homes / "peer-1" / "journal.sqlite"
    aside = file.rename(file.with_name("aside"))
    board.refresh()
    assert "it is gone" in body(board, "/api/status")["stale"][0]["why"]
    assert body(board, "/api/leaderboard")["rows"] == before["rows"]
    aside.rename(file)
    board.refresh()
    assert body(board, "/api/status")["homes"][0]["ok"]


def test_settled_points_come_from_the_chains_newest_statement(homes):
    board = board_of(homes)
    peer_id = board.watch.histories[0].peer_id
    statement = Statement(
        protocol=PROTOCOL, swarm=SWARM, epoch=0, previous=None, manifests=(), records=(), audits={},
        spent=(),
        points={peer_id: 2_500_000},
    )  # fmt: skip
    blob = documents.encode(statement)
    data_hash = BlobRef.of(blob).sha256
    with closing(Journal(homes / "peer-2" / "journal.sqlite")) as journal:
        journal.keep_paper(data_hash, blob)
    outcome = Outcome(b"r" * 32, bytes.fromhex(data_hash), 2_500_000)
    settlement = Settlement(0, outcome, posted_at=1_700_000_000, frozen=False, previous=None)
    recipe = board.watch.histories[0].recipe
    # an epoch of one tick holds round 0 alone
    board.watch.chain.standing = Standing(
        registered=frozenset([peer_id]), genesis=0, epoch_s=recipe.timing.tick_s,
        settlements=(Posted(settlement, "final", 3, "0xabc"),), heard=1.0,
    )  # fmt: skip
    page = board.peer(peer_id)
    earned = [round_["points"] for round_ in page["rounds"]]
    assert page["settled"] == 2.5 and page["pending"] == pytest.approx(sum(earned[1:]))
    assert page["points"] == pytest.approx(2.5 + sum(earned[1:])) and page["registered"]
    (row,) = body(board, "/api/trust")["settlements"]
    assert row["audit_command"] == "python -m swarm audit 0 --home peer-1"
    assert (row["state"], row["total"], row["signers"], row["transaction"]) == ("final", 2.5, 3, "0xabc")
    assert body(board, "/api/status")["epoch"]["last_settled"] == 0


def test_a_chain_that_is_away_is_told(homes):
    board = board_of(homes)
    board.watch.chain.look(place_of(board.watch.histories[0].meta))
    (stale,) = body(board, "/api/status")["stale"]
    assert stale["part"] == "chain" and stale["since"] is not None and "secret" not in stale["why"]


def test_new_rounds_appear(homes):
    board = board_of(homes / "peer-1")
    change(
        homes, "peer-1",
        "INSERT INTO rounds SELECT 9, 4, started, finished, seed, checkpoint, report FROM rounds WHERE ordinal = 3",
    )  # fmt: skip
    board.refresh()
    assert body(board, "/api/rounds")["rows"][0]["number"] == 9


def test_numbers_that_json_does_not_know_are_null(homes):
    report = {**reports(homes, "peer-1")[2], "points": float("nan"), "reward": float("inf")}
    change(homes, "peer-1", "UPDATE rounds SET report = ? WHERE ordinal = 3", json.dumps(report))
    board = board_of(homes / "peer-1")
    page = body(board, f"/api/peers/{board.watch.histories[0].peer_id}")
    assert page["rounds"][2]["points"] is None and page["rounds"][2]["reward"] is None


def test_a_folder_that_may_only_be_read(homes):
    home = homes / "peer-1"
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    home.chmod(0o500)
    try:
        assert body(board_of(home), "/api/status")["homes"][0]["ok"]
    finally:
        home.chmod(0o700)


def test_the_recipe_is_the_swarms(board):
    assert board.watch.histories[0].recipe == parse_recipe(board.watch.histories[0].meta["recipe"].encode())


def note(folder, home, **more):
    """Add to the report of a home's newest round."""
    for key, value in more.items():
        change(
            folder, home,
            "UPDATE rounds SET report = json_set(report, '$.' || ?, json(?)) "
            "WHERE ordinal = (SELECT max(ordinal) FROM rounds)",
            key, json.dumps(value),
        )  # fmt: skip


def test_energy_memory_and_help_are_shown_where_a_journal_has_them(homes):
    told = {"gain": 0.03, "low": -0.01, "high": 0.07, "rounds": 20, "method": "ablation", "more": "x" * 9999}
    note(homes, "peer-1", joules=7200.0, peak_memory=2**30, help=told, refused={"not delivered": 2, "garbage": 1})
    note(homes, "peer-2", help={"gain": "much"})
    latest = "INSERT OR REPLACE INTO meta VALUES ('latest/twin', ?)"
    change(homes, "peer-1", latest, json.dumps({"rounds": 20, "help": told}))
    change(homes, "peer-2", latest, json.dumps({"rounds": 5, "help": None}))
    board = board_of(homes)
    mine, other = (history.peer_id for history in board.watch.histories[:2])
    rows = {row["peer_id"]: row for row in board.leaderboard()["rows"]}
    tokens = reports(homes, "peer-1")[-1]["generated_tokens"]
    assert rows[mine]["tokens_per_kwh"] == pytest.approx(tokens * 500) and rows[other]["tokens_per_kwh"] is None
    peers = body(board, "/api/learning")["peers"]
    assert peers[mine]["memory"][-1] == 2**30 and peers[mine]["joules"] == [None, None, 7200.0]
    assert peers[mine]["help"] == {key: value for key, value in told.items() if key != "more"} | {"ordinal": ROUNDS}
    assert peers[mine]["twin"] == {key: value for key, value in told.items() if key != "more"}
    assert peers[other]["help"] is None and peers[other]["twin"] is None
    trust = body(board, "/api/trust")
    assert trust["not_revealed"] == 2 and trust["refused"] == {"garbage": 1}, "what never came broke no rule"
    assert body(board, "/api/rounds?limit=1")["rows"][0]["refused"] == 1
    assert "swarm_commits_not_revealed 2.0" in body(board, "/metrics")


def test_merging_traffic_and_memory_plan_are_shown_where_a_journal_has_them(homes):
    moved = {"bytes_in": 10, "bytes_out": 20, "dht_in": 1, "dht_out": 2, "uploads": 9}
    note(homes, "peer-1", merged=2, staleness_s=30.0, merge_refused={"stale": 1}, network=moved)
    plan = {"micro_batch": 8, "checkpointing": False, "chunk_tokens": 170, "why": "it fits", "more": "x" * 9999}
    change(homes, "peer-1", "INSERT INTO meta VALUES ('memory_plan', ?)", json.dumps(plan))
    change(homes, "peer-2", "INSERT INTO meta VALUES ('memory_plan', '{]')")
    board = board_of(homes)
    mine, other = (history.peer_id for history in board.watch.histories[:2])
    peers = body(board, "/api/learning")["peers"]
    assert peers[mine]["merged"] == [0, 0, 2] and peers[mine]["staleness"] == [None, None, 30.0]
    assert peers[mine]["merge_refused"] == {"stale": [0, 0, 1]}
    assert peers[mine]["network"]["dht_out"] == [None, None, 2] and set(peers[mine]["network"]) == set(moved) - {
        "uploads"
    }
    assert peers[mine]["memory_plan"] == {key: value for key, value in plan.items() if key != "more"}
    assert peers[other]["memory_plan"] is None
    assert body(board, "/api/status")["traffic"] == {key: moved[key] for key in moved if key != "uploads"}
    assert 'swarm_peer_round_bytes{kind="bytes_in"} 10.0' in body(board, "/metrics")


def test_sealed_audits_that_were_opened_are_counted_once(homes, tmp_path):
    assert body(board_of(homes), "/api/trust")["sealed"] is None
    recipe, openings = sealed_recipe(tmp_path)
    seals = list(openings._items)
    for home, opened, number in (("peer-1", seals[:2], 1), ("peer-2", seals[:3], 1), ("peer-2", seals[1:2], 2)):
        items = tuple(openings._items[seal] for seal in opened)
        record = OpeningRecord(
            protocol=PROTOCOL, swarm=SWARM, round=number, peer_id="Q" * 50, salt="0" * 32, groups=items
        )  # fmt: skip
        change(homes, home, "UPDATE meta SET value = ? WHERE key = 'recipe'", recipe.canonical().decode())
        change(homes, home, "INSERT INTO records VALUES (?, 'open', 'author', '', x'', ?)", number, encode(record))
    change(homes, "peer-1", "INSERT INTO records VALUES (2, 'open', 'liar', '', x'', x'00ff')")
    board = board_of(homes)
    assert body(board, "/api/trust")["sealed"] == {"opened": 3, "of": len(seals)}
    assert "swarm_sealed_audits_opened 3.0" in body(board, "/metrics")


def test_commands_name_folders_only_to_people_of_this_machine(homes):
    said = {}
    for shown in (True, False):
        board = Board(homes, show_paths=shown)
        board.refresh()
        peer_id = board.watch.histories[0].peer_id
        said[shown] = board.peer(peer_id)["registered_command"]
    assert said[True] == f"python -m swarm registered --peer {peer_id} --home {homes / 'peer-1'}"
    assert said[False] == f"python -m swarm registered --peer {peer_id} --home peer-1"


def test_the_explorer_is_the_one_that_was_named_or_that_of_the_chain(homes):
    for named, chain_id, found in (
        ("https://scan.example", 1, "https://scan.example"),
        (None, 8453, "https://basescan.org"),
        (None, 31337, None),
    ):
        change(homes, "peer-1", "UPDATE meta SET value = ? WHERE key = 'chain_id'", str(chain_id))
        board = Board(homes / "peer-1", explorer=named)
        board.refresh()
        assert body(board, "/api/status")["chain"]["explorer"] == found


def test_kept_proofs_of_equivocation_are_shown(homes):
    change(homes, "peer-1", "INSERT INTO equivocations VALUES (2, '2/answer', 'liar', x'01', x'02', 5.0)")
    (found,) = body(board_of(homes), "/api/trust")["equivocations"]
    assert (found["round"], found["stage"], found["peer_id"]) == (2, "answer", "liar")
    assert [len(digest) for digest in found["sha256"]] == [64, 64] and len(set(found["sha256"])) == 2


def test_who_criticises_and_does_not_answer_is_a_judge(homes):
    judge = board_of(homes).watch.histories[1].peer_id
    for home in ("peer-1", "peer-2", "peer-3"):
        change(homes, home, "DELETE FROM records WHERE stage = 'answer' AND peer_id = ?", judge)
    roles = {peer["peer_id"]: peer["role"] for peer in body(board_of(homes), "/api/status")["peers_present"]}
    assert roles.pop(judge) == "judge" and set(roles.values()) == {"learner"}


def test_a_stage_of_a_later_version_costs_nothing(homes):
    change(homes, "peer-1", "UPDATE records SET stage = 'merge' WHERE stage = 'revise'")
    page = body(board_of(homes / "peer-1"), "/api/rounds/1")
    assert page["tasks"] and not any(task["revisions"] for task in page["tasks"])
    assert sum(entry["what"] == "announced its merge" for entry in page["feed"]) == 3


def test_a_big_journal_is_said_to_be_read(homes, monkeypatch):
    monkeypatch.setattr("swarm.dashboard.history.AT_ONCE", 1)
    board = Board(homes / "peer-1")
    board.watch._scan()
    assert body(board, "/api/status")["reading"] == [{"home": "peer-1", "rounds": 0}]
    board.watch.histories[0].refresh()
    assert body(board, "/api/status")["reading"] == [{"home": "peer-1", "rounds": 1}]
    board.refresh()
    assert body(board, "/api/status")["reading"] == []


def test_settlements_outlive_their_chain(homes):
    peer_id = board_of(homes).watch.histories[0].peer_id
    statement = Statement(
        protocol=PROTOCOL, swarm=SWARM, epoch=0, previous=None, manifests=(), records=(), audits={},
        spent=(), points={peer_id: 2_500_000},
    )  # fmt: skip
    blob = documents.encode(statement)
    with closing(Journal(homes / "peer-1" / "journal.sqlite")) as journal:
        journal.keep_paper(BlobRef.of(blob).sha256, blob)
        emit = Emitter(Latest(journal), "me")
        emit("round", round=2, ordinal=3, ends=1_000_000.0)
        emit("settlement", epoch=0, state="signed", what="")
        emit("settlement", epoch=0, state="posted", what="", data_hash=BlobRef.of(blob).sha256)
        emit("settlement", epoch=0, state="final", what="")
        emit("settlement", epoch=1, state="posted", what="", data_hash="0" * 64)
    board = board_of(homes)
    board.watch.chain.look(place_of(board.watch.histories[0].meta))
    (row,) = body(board, "/api/trust")["settlements"]
    assert (row["epoch"], row["state"], row["total"], row["transaction"]) == (0, "final", 2.5, None)
    assert board.peer(peer_id)["settled"] == 2.5
    status = body(board, "/api/status")
    assert status["epoch"]["last_settled"] == 0 and status["epoch"]["ends"] is None
    assert [part["part"] for part in status["stale"]] == ["chain"]


def test_the_signers_are_found_among_the_blocks_of_one_second():
    asked = []

    class Node:
        def first_block_at(self, timestamp):
            return {70: SimpleNamespace(number=4), 71: SimpleNamespace(number=8)}.get(timestamp)

        def head(self):
            return SimpleNamespace(number=9)

        def logs(self, address, topics, first, last):
            asked.append((first, last))
            return [SimpleNamespace(data=b"\0" * 31 + b"\3", transaction_hash=b"\xab")] if last >= 6 else []

    registry = SimpleNamespace(chain=Node(), address="0x")
    settlement = Settlement(1, Outcome(b"", b"", 0), posted_at=70, frozen=False, previous=None)
    assert _posting(registry, settlement) == (3, "0xab") and asked == [(4, 7)]
    assert _posting(registry, replace(settlement, posted_at=71)) == (3, "0xab") and asked[1] == (8, 9)
    assert _posting(registry, replace(settlement, posted_at=72)) == (None, None)
