"""swarm dashboard: serve the page over what a home, or a folder with several, holds."""

import argparse
import asyncio
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aiohttp import web

from swarm.dashboard.board import Board
from swarm.dashboard.explorer import explorer_url
from swarm.dashboard.history import find_homes
from swarm.dashboard.port import DASHBOARD, port_number
from swarm.dashboard.server import is_loopback, make_app
from swarm.errors import SwarmError
from swarm.events import Emitter, PlainSink

ONLOOKERS = Path("~/.swarm/onlookers")
START_S = 10.0
STOP_S = 2.0
"""Open requests have this long at the end."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="swarm dashboard", description="Show a swarm in the browser, read-only.")
    p.add_argument("invite", nargs="?", help="look on at the swarm of this invite, without a model")
    p.add_argument("--home", type=Path, metavar="DIR", help="a peer's folder, or one with several")
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    p.add_argument("--port", type=port_number, default=DASHBOARD, help=f"(default: {DASHBOARD}; 0: any that is free)")
    p.add_argument("--public", action="store_true", help="for strangers: ask for no token, name no folders")
    p.add_argument("--explorer", type=explorer_url, metavar="URL", help="of the chain (default: of a well-known one)")
    p.add_argument("--plain", action="store_true", help="one JSON object per event instead of sentences")
    return p


def main(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C; the exit status is 2 for an error that a person can mend."""
    options = parser().parse_args(arguments)
    try:
        with ExitStack() as stack:
            folder = _look_on(stack, options.invite, options.home) if options.invite else folder_of(options.home)
            server = Server(folder, options.host, options.port, public=options.public, explorer=options.explorer)
            asyncio.run(_serve(server, plain=options.plain))
    except SwarmError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    return 0


def _look_on(stack: ExitStack, text: str, home: Path | None) -> Path:
    """Follow the swarm of an invite until the end of `stack`, and return the home where what is heard goes."""
    from swarm.network.invite import Invite  # takes seconds, as it needs the network

    invite = Invite.decode(text)
    from swarm.round.onlooker import Onlooker

    home = home or ONLOOKERS / f"{invite.chain_id}-{invite.contract[2:10].lower()}"
    stack.enter_context(Onlooker(invite, home))
    return home.expanduser().resolve()


def folder_of(home: Path | None) -> Path:
    """The folder, if there is a journal in it or right below it.

    Raises:
        SwarmError: there is none, or it cannot be read.
    """
    if home is None:
        raise SwarmError("name a peer's folder with --home, or give the invite of a swarm to look on")
    folder = home.expanduser().resolve()
    try:
        if find_homes(folder):
            return folder
    except OSError as error:
        raise SwarmError(f"{folder} cannot be read: {error.strerror}; name a peer's folder with --home") from error
    raise SwarmError(f"there is no journal in {folder} or right below it; name a peer's folder with --home")


class Server:
    """The dashboard of a folder, at an address."""

    def __init__(
        self, folder: Path, host: str, port: int, *, public: bool = False, explorer: str | None = None
    ) -> None:
        self._board = Board(folder, explorer=explorer, show_paths=is_loopback(host) and not public)
        self._host = host
        self._port = port
        self.token = None if public or is_loopback(host) else secrets.token_urlsafe(24)
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen, and return the link for a person, with the token where one is asked for.

        Raises:
            SwarmError: the address cannot be used.
        """
        app = make_app(self._board, host=self._host, token=self.token)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_S)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise SwarmError(
                f"the dashboard cannot listen on {self._host}:{self._port} ({error.strerror or error}); "
                "name another port with --port, or 0 for any that is free"
            ) from error
        threading.Thread(target=self._board.start, name="dashboard", daemon=True).start()
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{port}/" + (f"?token={self.token}" if self.token else "")

    async def stop(self) -> None:
        self._board.stop()
        if self._runner is not None:
            await self._runner.cleanup()


@contextmanager
def beside(folder: Path, port: int | None, emit: Emitter) -> Iterator[None]:
    """The same server in a thread of a running peer, on this machine only; none where `port` is None.

    Raises:
        SwarmError: the port cannot be used.
    """
    if port is None:
        yield
        return
    server = Server(folder, "127.0.0.1", port)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dashboard-server", daemon=True)
    thread.start()
    try:
        emit("dashboard", url=asyncio.run_coroutine_threadsafe(server.start(), loop).result(START_S))
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(2 * STOP_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_S)


async def _serve(server: Server, *, plain: bool) -> None:
    link = await server.start()
    if plain:
        Emitter(PlainSink(), "dashboard")("dashboard", url=link)
    else:
        print(f"the dashboard is at {link}\nCtrl-C ends it", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop()
