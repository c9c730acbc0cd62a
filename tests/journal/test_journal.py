"""The journal: whole rounds or nothing, and clear words for a file that is not one."""

import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from swarm.errors import SwarmError
from swarm.journal.journal import _STEPS, SCHEMA_VERSION, AuditRow, Journal, OutboxRow, OutboxState, RecordRow


def commit(journal, number, ordinal, **more):
    report = {"points": 1.5, "reward": 0.25}
    parts = {"records": [RecordRow("answer", "me", "ab" * 32, b"signed", b"blob")], "audits": [], **more}
    journal.commit_round(
        number, ordinal, started=1.0, finished=2.0, seed=b"s", checkpoint=f"{ordinal:09d}", report=report, **parts
    )


def test_a_round_comes_back(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    assert journal.last_round() is None
    commit(journal, 7, 1)
    commit(journal, 19, 2)
    journal.close()
    again = Journal(tmp_path / "j.sqlite")
    last = again.last_round()
    assert (last.number, last.ordinal, last.checkpoint) == (19, 2, "000000002")
    assert [report["points"] for report in again.reports()] == [1.5, 1.5]


def test_a_round_is_written_whole_or_not_at_all(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    broken = [AuditRow("judge", "author", 0, 0, 1.0, True), AuditRow("judge", "author", 0, 1, object(), True)]
    with pytest.raises(sqlite3.Error):
        commit(journal, 7, 1, audits=broken)
    assert journal.last_round() is None
    assert journal.audits_of("judge", 10) == []


def test_a_round_is_there_after_kill_minus_nine(tmp_path):
    script = (
        "import sys, os, signal; sys.path.insert(0, sys.argv[2])\n"
        "from swarm.journal.journal import Journal\n"
        "j = Journal(sys.argv[1])\n"
        "for i in range(1, 4):\n"
        "    j.commit_round(i, i, started=1, finished=2, seed=b's', checkpoint='c', report={}, records=[], audits=[])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "j.sqlite"), os.getcwd()], check=False)
    assert done.returncode == -signal.SIGKILL
    assert Journal(tmp_path / "j.sqlite").last_round().ordinal == 3


def test_newest_audits_in_order(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    for number in range(1, 6):
        commit(journal, number, number, audits=[AuditRow("judge", "author", 0, 0, float(number), number % 2 == 0)])
    assert journal.audits_of("judge", 3) == [(3.0, False), (4.0, True), (5.0, False)]
    assert journal.audits_of("nobody", 3) == []
    places = [("a", 0, 1), ("b", 0, 0), ("a", 1, 0), ("a", 0, 0)]
    late = [AuditRow("other", *place, float(number), True) for number, place in enumerate(places)]
    commit(journal, 6, 6, audits=late)
    assert [raw for raw, _ in journal.audits_of("other", 9)] == [3, 0, 2, 1], "by author, task and sample in a round"


def test_heldout_and_notes(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    journal.note_heldout(0, 1.0, 10, 64)
    journal.note_heldout(5, 2.0, 30, 64)
    assert list(journal.heldout()) == [(0, 10, 64), (5, 30, 64)]
    journal.put("port", "1")
    journal.put("port", "2")
    assert journal.get("port") == "2" and journal.get("nothing") is None


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(SwarmError, match=r"j\.sqlite cannot be opened .* move the file away"):
        Journal(path)


def test_a_later_version_is_named(tmp_path):
    path = tmp_path / "j.sqlite"
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(SwarmError, match="version 99"):
        Journal(path)


def test_a_journal_of_version_1_is_brought_up_to_date(tmp_path):
    path = tmp_path / "j.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(_STEPS[0] + "PRAGMA user_version = 1;")
        database.execute("INSERT INTO meta VALUES ('contract', '0x1')")
    journal = Journal(path)
    assert journal.get("contract") == "0x1" and journal.outbox(OutboxState.WAITING) == []
    journal.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_the_outbox_keeps_what_is_on_its_way(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    row = OutboxRow("register", "0x11", b"\x00\x01", 2**200, 1.0, 2.0)
    assert journal.put_outbox(row)
    assert journal.outbox_row("register") == row
    assert not journal.put_outbox(OutboxRow("register", None, b"", 0, 1.0, 9.0))
    journal.put_outbox(OutboxRow("second", None, b"", 0, 1.0, 2.0))
    journal.note_signed("register", [b"\x02", b"\x03"])
    journal.note_attempt("register", OutboxState.WAITING, "no answer")
    journal.close()
    again = Journal(tmp_path / "j.sqlite")
    assert [row.key for row in again.outbox(OutboxState.WAITING)] == ["register", "second"]
    kept = again.outbox_row("register")
    assert (kept.signed, kept.attempts, kept.last_error) == ((b"\x02", b"\x03"), 1, "no answer")
    again.note_attempt("register", OutboxState.MINED, transaction_hash=b"\x04")
    again.note_attempt("second", OutboxState.EXPIRED, "too late")
    assert again.outbox_row("register").transaction_hash == b"\x04"
    assert not again.put_outbox(row)
    assert again.put_outbox(OutboxRow("second", "0x22", b"", 0, 5.0, 6.0))
    fresh = again.outbox_row("second")
    assert (fresh.recipient, fresh.state, fresh.attempts, fresh.last_error) == ("0x22", OutboxState.WAITING, 0, "")


def test_what_was_announced_and_what_came_later(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    rows = [
        RecordRow("answer", "me", "ab" * 32, b"signed", b"blob"),
        RecordRow("revise", "you", "cd" * 32, b"said", b""),
    ]
    commit(journal, 7, 1, records=rows)
    assert journal.announced(0, 6) == [] and journal.seeds(0, 9) == {7: b"s"}
    assert journal.announced(7, 7) == [(7, "answer", "me", b"signed", True), (7, "revise", "you", b"said", False)]
    assert journal.body(7, "answer", "me", "ab" * 32) == b"blob"
    assert journal.body(7, "answer", "me", "00" * 32) is None and journal.body(7, "revise", "you", "cd" * 32) is None
    journal.keep_records([(7, RecordRow("revise", "you", "cd" * 32, b"said", b"late"))])
    assert journal.body(7, "revise", "you", "cd" * 32) == b"late"


def test_a_vote_stays(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    assert journal.vote(3) is None
    assert (
        journal.keep_vote(3, "aa") == "aa" and journal.keep_vote(3, "bb") == "aa" and journal.keep_vote(4, "bb") == "bb"
    )
    journal.close()
    assert Journal(tmp_path / "j.sqlite").vote(3) == "aa"
    journal = Journal(tmp_path / "j.sqlite")
    journal.keep_paper("aa", b"statement")
    assert journal.paper("aa") == b"statement" and journal.paper("bb") is None


def test_one_proof_for_each_slot_and_peer_is_kept(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    assert journal.keep_equivocation(7, "7/answer", "ann", b"one", b"two", 1.0)
    assert not journal.keep_equivocation(7, "7/answer", "ann", b"one", b"three", 2.0)
    assert journal.keep_equivocation(3, "3/revise", "ann", b"a", b"b", 3.0)
    assert journal.equivocations() == [
        (3, "3/revise", "ann", b"a", b"b", 3.0),
        (7, "7/answer", "ann", b"one", b"two", 1.0),
    ]
