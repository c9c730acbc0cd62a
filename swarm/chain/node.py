"""The embedded development chain as a process: `python -m swarm.chain.node --home DIR`.

It prints one line of JSON on standard output, `{"url": ..., "chain_id": ...}` when it serves or `{"error": ...}` when
it cannot, and serves JSON-RPC until its parent is gone. One process per directory; killing it at any moment is safe. It
is for development and for swarms among friends: whoever runs it decides what is in a block.
"""

import argparse
import asyncio
import fcntl
import json
import logging
import os
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from aiohttp import web

from swarm.chain.ledger import Ledger
from swarm.chain.methods import Methods
from swarm.errors import SwarmError
from swarm.lifetime import end_with_parent

MAX_BODY_BYTES = 1 << 20
BODY_DEADLINE_S = 10.0
STACK_BYTES = 64 << 20  # address space, not memory: py-evm nests contract calls in Python calls
LOCK_WAIT_S = 3.0  # a node whose parent was killed just now needs a moment to notice

_DATABASE, _LOCK, _PORT = "chain.sqlite", "node.lock", "port"
_TOO_LARGE = f"a request has at most {MAX_BODY_BYTES} bytes"
_TOO_SLOW = f"the request did not arrive within {BODY_DEADLINE_S:.0f} s"


def lock(home: Path) -> IO[str]:
    """Take the directory for this process; the lock lasts as long as the file stays open, and dies with the process.

    Raises:
        SwarmError: another process has it, also after 3 seconds.
    """
    home.mkdir(parents=True, exist_ok=True)
    file = (home / _LOCK).open("a+", encoding="utf-8")
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                file.close()
                raise SwarmError(
                    f"a development chain runs in {home} already (process {holder}); use its url, or stop it first"
                ) from None
            time.sleep(0.1)
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def open_ledger(home: Path) -> Ledger:
    """The chain in this directory, made on first use.

    Raises:
        SwarmError: the file there is not such a chain.
    """
    try:
        return Ledger(home / _DATABASE)
    except sqlite3.DatabaseError as error:
        raise SwarmError(
            f"{home / _DATABASE} is not a chain or is damaged ({error}); move it away and a new chain is made"
        ) from error


def application(methods: Methods, worker: ThreadPoolExecutor) -> web.Application:
    """The HTTP side: one POST is one JSON-RPC request or batch. The chain's work is done in `worker`, one by one."""

    async def handle(request: web.Request) -> web.Response:
        try:
            body = await asyncio.wait_for(request.read(), BODY_DEADLINE_S)
        except web.HTTPRequestEntityTooLarge:
            return _refuse(413, _TOO_LARGE)
        except TimeoutError:
            return _refuse(408, _TOO_SLOW)
        answer = await asyncio.get_running_loop().run_in_executor(worker, methods.answer, body)
        return web.Response(body=answer, content_type="application/json")

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/", handle)
    return app


def _refuse(status: int, message: str) -> web.Response:
    answer = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": message}}
    response = web.json_response(answer, status=status)
    response.force_close()
    return response


async def bind(runner: web.AppRunner, home: Path, host: str, port: int) -> str:
    """Listen and give the url. Port 0 is the port of last time, so that invites stay valid, or else a free one.

    Raises:
        SwarmError: the port that was asked for is in use, or the host is none of this machine.
    """
    remembered = home / _PORT
    wishes = [port]
    if port == 0 and remembered.exists() and (text := remembered.read_text().strip()).isdecimal():
        wishes = [int(text), 0]
    for wish in wishes:
        try:
            await web.TCPSite(runner, host, wish).start()
            break
        except (OSError, OverflowError) as error:
            if wish == wishes[-1]:
                raise SwarmError(
                    f"the development chain cannot listen on {host} port {wish} ({error}); "
                    "choose another port, or 0 for any free one"
                ) from error
    bound = runner.addresses[0][1]
    partial = remembered.with_suffix(".partial")
    partial.write_text(f"{bound}\n")
    partial.replace(remembered)
    return f"http://{f'[{host}]' if ':' in host else host}:{bound}"


async def serve(home: Path, host: str, port: int) -> None:
    """Serve the chain in `home` until cancelled."""
    with lock(home), ThreadPoolExecutor(1, thread_name_prefix="ledger") as worker:
        ledger = open_ledger(home)
        runner = web.AppRunner(application(Methods(ledger), worker), access_log=None)
        try:
            await runner.setup()
            url = await bind(runner, home, host, port)
            print(json.dumps({"url": url, "chain_id": ledger.chain_id}), flush=True)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            worker.submit(ledger.close)


def main() -> int:
    """Run the node. Exit status 2 and a line with the error where it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m swarm.chain.node", description="An embedded development chain.")
    parser.add_argument("--home", type=Path, required=True, help="directory of this chain; made on first use")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; loopback by default")
    parser.add_argument("--port", type=int, default=0, help="0: the port of last time, else any free one")
    parser.add_argument("--outlive-parent", action="store_true", help="keep running when the starting process ends")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if not options.outlive_parent:
        end_with_parent(lambda: os._exit(0))  # at once: the chain on disk is safe whenever the process ends
    threading.stack_size(STACK_BYTES)
    try:
        asyncio.run(serve(options.home, options.host, options.port))
    except SwarmError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
