"""The HTTP side: the page's files and a read-only JSON API over a board. Nothing here can change a swarm."""

import asyncio
import hmac
import ipaddress
import json
import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from swarm.dashboard.board import Board
from swarm.dashboard.definitions import DEFINITIONS
from swarm.dashboard.downloads import leaderboard_csv, learning_csv, metrics, rounds_csv
from swarm.dashboard.openapi import document
from swarm.errors import SwarmError

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
ROUNDS = 50
"""In one answer, unless another number is asked for."""
HEARTBEAT_S = 15.0
MAX_STREAMS = 64
"""Pages that are told of changes at once; others ask again by themselves."""
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BOARD = web.AppKey("board", Board)
STREAMS: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("streams")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def make_app(board: Board, *, host: str, token: str | None) -> web.Application:
    """
    Args:
        host: the address it listens on; on a loopback one other names in the Host header are refused.
        token: what a visitor has to bring; None: nothing.
    """
    names = _LOOPBACK_NAMES | {host} if is_loopback(host) else None
    app = web.Application(
        middlewares=[_headers, _plainly, _only_reading(names), *([_asks_for(token)] if token else [])]
    )
    app[BOARD] = board
    app[STREAMS] = set[asyncio.Task[Any]]()
    api = {
        "/api/status": lambda request: board.status(),
        "/api/leaderboard": lambda request: board.leaderboard(),
        "/api/peers/{peer_id}": lambda request: _found(board.peer(request.match_info["peer_id"]), "peer"),
        "/api/rounds": lambda request: board.rounds(_number(request, "before"), _number(request, "limit") or ROUNDS),
        r"/api/rounds/{number:\d{1,16}}": lambda request: _found(
            board.round(int(request.match_info["number"])), "round"
        ),
        "/api/learning": lambda request: board.learning(),
        "/api/trust": lambda request: board.trust(),
        "/api/definitions": lambda request: DEFINITIONS,
        "/api/openapi.json": lambda request: document(),
    }
    for path, ask in api.items():
        app.router.add_get(path, _json(ask))
    texts = {
        "/api/leaderboard.csv": ("text/csv", leaderboard_csv),
        "/api/rounds.csv": ("text/csv", rounds_csv),
        "/api/learning.csv": ("text/csv", learning_csv),
        "/metrics": ("text/plain", metrics),
    }
    for path, (kind, write) in texts.items():
        app.router.add_get(path, _text(kind, write))
    app.router.add_get("/api/changes", _changes)
    app.router.add_get("/", _index)
    app.router.add_static("/static/", STATIC)
    app.on_shutdown.append(_end_streams)
    return app


# What every request passes.


@web.middleware
async def _headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.headers.update(SECURITY_HEADERS)
        raise
    if not response.prepared:
        response.headers.update(SECURITY_HEADERS)
    return response


def _only_reading(names: set[str] | None) -> Any:
    """Only GET and HEAD, and where `names` are given only with one of them as the host: a page elsewhere whose name
    was made to lead here (DNS rebinding) is refused."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return _problem(405, "this dashboard can only be read", {"Allow": "GET, HEAD"})
        name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        if names is not None and name.lower() not in names:
            return _problem(403, f"this dashboard answers to localhost, not to {request.host[:100]!r}")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and request.path != "/":
            return _problem(403, "this dashboard answers its own pages only")
        return await handler(request)

    return check


def _asks_for(token: str) -> Any:
    """Only with the token: as a bearer, in the cookie, or once in the link, which then sets the cookie."""

    def fits(given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), token.encode())

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        cookie = f"swarm-{request.transport.get_extra_info('sockname')[1]}" if request.transport else "swarm"
        if fits(request.query.get("token")):
            response = web.Response(status=303, headers={"Location": request.path})
            response.set_cookie(cookie, token, httponly=True, samesite="Strict", path="/")
            return response
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if fits(request.cookies.get(cookie)) or fits(bearer):
            return await handler(request)
        return _problem(401, "this dashboard asks for a token: open the link that it printed when it started")

    return check


@web.middleware
async def _plainly(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as one sentence in JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _problem(error.status, error.text or error.reason)
    except SwarmError as error:
        return _problem(503, str(error))
    except Exception:
        logger.exception("%s failed", request.path)
        return _problem(500, "this part could not be read; the log of the dashboard says why")


# What is answered.


def _json(ask: Callable[[web.Request], Any]) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        text = await asyncio.to_thread(lambda: dumps(ask(request)))
        response = web.Response(text=text, content_type="application/json")
        response.enable_compression()
        return response

    return answer


def _text(kind: str, write: Callable[[Board], str]) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        text = await asyncio.to_thread(write, request.app[BOARD])
        response = web.Response(text=text, content_type=kind, charset="utf-8")
        response.enable_compression()
        return response

    return answer


async def _index(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(STATIC / "index.html")


async def _changes(request: web.Request) -> web.StreamResponse:
    """Server-sent events: which parts have changed."""
    streams, board = request.app[STREAMS], request.app[BOARD]
    if len(streams) >= MAX_STREAMS:
        return _problem(503, f"{MAX_STREAMS} pages are told of changes already; ask again instead")
    loop, parts, news = asyncio.get_running_loop(), set[str](), asyncio.Event()

    def tell(changed: list[str]) -> None:
        parts.update(changed)
        news.set()

    def listener(changed: list[str]) -> None:
        loop.call_soon_threadsafe(tell, changed)

    response = web.StreamResponse(headers={**SECURITY_HEADERS, "Content-Type": "text/event-stream"})
    await response.prepare(request)
    task = asyncio.current_task()
    assert task is not None
    streams.add(task)
    board.listeners.add(listener)
    try:
        await response.write(b"retry: 2000\n\n")
        while True:
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT_S)
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            news.clear()
            told = json.dumps({"parts": sorted(parts)})
            parts.clear()
            await response.write(f"event: changed\ndata: {told}\n\n".encode())
    except (ConnectionResetError, asyncio.CancelledError):
        return response
    finally:
        board.listeners.discard(listener)
        streams.discard(task)


async def _end_streams(app: web.Application) -> None:
    streams = app[STREAMS]
    for task in tuple(streams):
        task.cancel()


def _found(value: Any, what: str) -> Any:
    if value is None:
        raise web.HTTPNotFound(text=f"no journal here knows this {what}")
    return value


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise web.HTTPBadRequest(text=f"{name} is a whole number from 0 on, not {text[:40]!r}")
    return int(text)


def _problem(status: int, sentence: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=headers)


def dumps(value: Any) -> str:
    """As JSON; numbers that JSON does not know become null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case _:
            return value
