"""Asks a dashboard over HTTP, as a browser does."""

import asyncio
from contextlib import asynccontextmanager

from aiohttp.test_utils import TestClient, TestServer

from swarm.dashboard.board import Board
from swarm.dashboard.server import make_app
from swarm.round.home import JOURNAL_NAME


def board_of(folder):
    """A board that has read everything and looks at nothing by itself."""
    board = Board(folder)
    while board.refresh():
        pass  # points are recounted a little at a time
    return board


def live_board_of(folder):
    """The same of a swarm that seems to run: its journals have just been written."""
    for file in folder.rglob(JOURNAL_NAME):
        file.touch()
    return board_of(folder)


@asynccontextmanager
async def client_of(board, host="127.0.0.1", token=None):
    async with TestClient(TestServer(make_app(board, host=host, token=token))) as client:
        yield client


def ask(board, path, *, method="GET", host="127.0.0.1", token=None, **options):
    """One request: the status, the headers and the body, from JSON where it is some."""

    async def go():
        async with client_of(board, host, token) as client:
            response = await client.request(method, path, allow_redirects=False, **options)
            is_json = response.content_type == "application/json"
            return response.status, response.headers, await (response.json() if is_json else response.text())

    return asyncio.run(go())


def body(board, path, **options):
    status, _, found = ask(board, path, **options)
    assert status == 200, found
    return found
