"""Who may ask the dashboard, and for what."""

import asyncio
import csv
import io
import json
import re
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing

import pytest

from swarm.dashboard import command
from swarm.dashboard.definitions import DEFINITIONS
from swarm.dashboard.downloads import leaderboard_csv
from swarm.dashboard.server import is_loopback, make_app
from swarm.dashboard.top import draw
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.journal.journal import Journal
from swarm.journal.latest import PREFIX, Latest
from tests.dashboard.asking import ask, board_of, body, client_of, live_board_of
from tests.dashboard.conftest import ROUNDS

EVERY_PATH = (
    "/", "/api/status", "/api/leaderboard", "/api/rounds", "/api/rounds/1", "/api/learning", "/api/trust",
    "/api/definitions", "/api/openapi.json", "/metrics", "/api/leaderboard.csv", "/api/peers/x", "/nothing",
)  # fmt: skip
TOKEN = "a" * 32


@pytest.fixture(scope="module")
def board(played):
    return board_of(played)


@pytest.mark.parametrize("path", EVERY_PATH)
def test_every_answer_is_for_its_own_page_only(board, path):
    _, headers, _ = ask(board, path)
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_sent(board, method):
    status, _, found = ask(board, "/api/status", method=method)
    assert status == 405 and "only be read" in found["error"]


def test_head_is_answered(board):
    assert ask(board, "/api/status", method="HEAD")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8420", "127.0.0.1.evil.example", "localhost.", ""])
def test_a_name_that_was_made_to_lead_here_is_refused(board, host):
    status, _, found = ask(board, "/api/status", headers={"Host": host})
    assert status in (400, 403) and "recipe" not in str(found)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8420", "127.0.0.1:1", "[::1]:8420", "[::1]"])
def test_this_machines_own_names_are_answered(board, host):
    assert ask(board, "/api/status", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_pages_are_refused(board, site):
    assert ask(board, "/api/status", headers={"Sec-Fetch-Site": site})[0] == 403
    assert ask(board, "/", headers={"Sec-Fetch-Site": site})[0] == 200  # a link to it may be followed


def test_elsewhere_it_asks_for_a_token(board):
    def status(path="/api/status", **options):
        return ask(board, path, host="0.0.0.0", token=TOKEN, **options)[0]

    for path in EVERY_PATH:
        assert status(path) == 401
    assert status("/api/status?token=wrong") == 401
    assert status("/api/status?token=%C3%A9") == 401
    assert status(headers={"Authorization": f"Bearer {TOKEN}"}) == 200
    assert status(headers={"Authorization": "Bearer x"}) == 401
    assert status(headers={"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}) == 200


def test_the_link_with_the_token_gives_a_cookie(board):
    async def go():
        async with client_of(board, "0.0.0.0", TOKEN) as client:
            first = await client.get(f"/?token={TOKEN}", allow_redirects=False)
            cookie = first.headers["Set-Cookie"]
            assert first.status == 303 and first.headers["Location"] == "/"
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
            name = cookie.split("=")[0]
            assert (await client.get("/api/status", headers={"Cookie": f"{name}={TOKEN}"})).status == 200
            client.session.cookie_jar.clear()
            assert (await client.get("/api/status", headers={"Cookie": f"{name}=wrong"})).status == 401

    asyncio.run(go())


def test_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "127.3.2.1", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "example.org"]))
    assert command.Server("", "0.0.0.0", 0).token and not command.Server("", "0.0.0.0", 0, public=True).token
    assert not command.Server("", "127.0.0.1", 0).token


def test_files_outside_are_not_served(board):
    for path in (
        "/static/../board.py",
        "/static/%2e%2e/board.py",
        "/static//etc/passwd",
        "/journal.sqlite",
        "/static/",
    ):
        assert ask(board, path)[0] in (403, 404), path


def test_changes_are_told(homes):
    board = board_of(homes)

    async def go():
        async with client_of(board) as client:
            stream = await client.get("/api/changes")
            assert stream.content_type == "text/event-stream"
            await stream.content.readuntil(b"\n\n")
            with closing(sqlite3.connect(homes / "peer-1" / "journal.sqlite")) as database, database:
                database.execute("INSERT INTO heldout VALUES (99, 0, 1, 2)")
            await asyncio.to_thread(board.refresh)
            told = await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 5)
            event, data = told.decode().strip().split("\n")
            assert event == "event: changed" and "learning" in json.loads(data.removeprefix("data: "))["parts"]

    asyncio.run(go())


def test_streams_are_few_and_end(board, monkeypatch):
    monkeypatch.setattr("swarm.dashboard.server.MAX_STREAMS", 1)

    async def go():
        async with client_of(board) as client:
            await client.get("/api/changes")
            assert (await client.get("/api/changes")).status == 503

    asyncio.run(asyncio.wait_for(go(), 20))


def test_downloads(board):
    rows = list(csv.DictReader(io.StringIO(body(board, "/api/leaderboard.csv"))))
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and float(rows[0]["points"]) > 0
    assert len(list(csv.DictReader(io.StringIO(body(board, "/api/rounds.csv"))))) == ROUNDS
    assert len(list(csv.DictReader(io.StringIO(body(board, "/api/learning.csv"))))) == 3 * ROUNDS


def test_a_name_is_no_formula_in_a_spreadsheet(homes):
    evil = '=HYPERLINK("http://evil.example")\r\n"'
    with closing(Journal(homes / "peer-1" / "journal.sqlite")) as journal:
        Emitter(Latest(journal), evil)("identity", peer_id=board_of(homes).watch.histories[0].peer_id)
    board = board_of(homes)
    names = [row["name"] for row in csv.DictReader(io.StringIO(leaderboard_csv(board), newline=""))]
    assert f"'{evil}" in names
    lines = [line for line in body(board, "/metrics").split("\n") if "HYPERLINK" in line]
    assert all(re.fullmatch(r'swarm_\w+\{peer_id="\w+",name="(?:[^"\\]|\\.)*"\} \S+', line) for line in lines)
    assert lines


def test_metrics(played):
    text = body(live_board_of(played), "/metrics")
    assert "swarm_peers_present 3.0" in text and "swarm_heldout_accuracy 0.5" in text
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) swarm_\w+ .+|swarm_\w+(\{.*\})? [-+0-9.e]+", line), line


def test_every_route_is_described(board):
    described = set(body(board, "/api/openapi.json")["paths"])
    routes = {resource.canonical for resource in make_app(board, host="127.0.0.1", token=None).router.resources()} - {
        "/",
        "/static",
        "/api/openapi.json",
    }
    assert described == routes
    assert body(board, "/api/definitions") == DEFINITIONS


def test_a_port_in_use_is_told(played, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command.main(["--home", str(played), "--port", str(port)]) == 2
        assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
        with pytest.raises(SwarmError, match="name another port"), command.beside(played, port, Emitter(print, "")):
            pass


@pytest.mark.parametrize(
    "url",
    ["", "scan.example", "javascript:alert(1)", "https://", "https://me@scan.example", "https://[", "https://x?y"],
)
def test_what_is_no_explorer_is_told(url, capsys):
    with pytest.raises(SystemExit):
        command.main(["--home", ".", "--explorer", url])
    assert "looks like https://explorer.example" in capsys.readouterr().err


def test_paths_are_shown_on_this_machine_only(played):
    def told(host, **options):
        return command.Server(played, host, 0, **options)._board._show_paths

    assert told("127.0.0.1") and not told("127.0.0.1", public=True) and not told("0.0.0.0")


def test_it_starts_without_the_network_and_the_model():
    """They take seconds to load, which nobody who only looks has to wait for."""
    code = "import sys, swarm.dashboard.command; print({'torch', 'hivemind', 'transformers'} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.stdout == "set()\n", process.stderr


@pytest.mark.parametrize("home", ["", "nothing/here", "file"])
def test_a_folder_without_a_journal_is_told(tmp_path, capsys, home):
    (tmp_path / "file").write_text("")
    assert command.main(["--home", str(tmp_path / home)]) == 2
    assert "there is no journal in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"), [([], "name a peer's folder"), (["swarm:nonsense"], "cut short or mistyped")]
)
def test_a_command_that_names_no_swarm(capsys, arguments, why):
    assert command.main(arguments) == 2
    assert why in capsys.readouterr().err


def test_beside_a_peer(played):
    events = []
    with command.beside(played, 0, Emitter(events.append, "me")):
        assert events[0]["event"] == "dashboard"
        page = urllib.request.urlopen(events[0]["url"], timeout=10).read()
        assert b"<!doctype html>" in page
    with pytest.raises(OSError):
        urllib.request.urlopen(events[0]["url"], timeout=2)


def test_top_shows_the_same_and_nothing_hostile(board):
    from rich.console import Console

    status, leaderboard = board.status(), board.leaderboard()
    evil = "\x1b[31m\u202e\u200b<script>[bold]x[/bold]\n"
    rows = [{**row, "name": evil} for row in leaderboard["rows"]]
    stale = [{"part": evil, "since": 1.0, "why": evil}]
    console = Console(file=io.StringIO(), width=140)
    console.print(draw({**status, "stale": stale, "stage": evil}, {**leaderboard, "rows": rows}))
    text = console.file.getvalue()
    assert not set(text) & {"\x1b", "\u202e", "\u200b"} and "<script>" in text
    assert "25% → 50%" in text and f"{rows[0]['points']:.1f}" in text


def test_top_of_nothing(tmp_path):
    from rich.console import Console

    board = board_of(tmp_path)
    Console(file=io.StringIO()).print(draw(board.status(), board.leaderboard()))


def test_the_latest_events_are_noted(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    emit = Emitter(lambda event: None, "me")
    with emit.also(Latest(journal)):
        emit("stage", stage="answer")
        emit("stage", stage="critique")
        emit("finished", summary={"much": 1})
        emit("invite", invite="x")
    emit("stage", stage="revise")
    assert json.loads(journal.get(PREFIX + "stage"))["stage"] == "critique"
    assert "much" not in journal.get(PREFIX + "finished") and journal.get(PREFIX + "invite") is None
    journal.close()
    Latest(journal)({"at": 1.0, "event": "stage", "peer": "me"})
