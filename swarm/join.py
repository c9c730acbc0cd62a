"""python -m swarm.join: from a command line to a running peer, or to a local swarm of several."""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swarm.dashboard.port import DASHBOARD, port_number
from swarm.dashboard.terminal import Display
from swarm.errors import SwarmError
from swarm.events import Emitter, PlainSink, Sink
from swarm.lifetime import end_with_parent
from swarm.recipe import catalogue
from swarm.recipe.schema import Recipe
from swarm.tracking import TRACKERS, check, tracked

PATIENCE_S = 25.0
"""Seconds after the first Ctrl-C until everything ends, finished or not."""
ORPHAN_S = 4.0
"""The same for a peer whose parent is gone."""
HOMES = Path("~/.swarm")

EXAMPLES = """\
examples:
  python -m swarm.join                       start a swarm and print its invite
  python -m swarm.join 'swarm:...'           join the swarm of that invite
  python -m swarm.join --peers 3 --rounds 10 start a local swarm of three processes
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m swarm.join",
        description="Start a swarm, or join one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("invite", nargs="?", help="the invite of a swarm; without one a new swarm is started")
    p.add_argument("--recipe", help=f"a recipe file, or the name of a shipped one (default: {catalogue.DEFAULT})")
    p.add_argument("--model", help="a path or hub id, in place of the recipe's model")
    p.add_argument(
        "--openings", type=Path, metavar="FILE", help="the answers to the recipe's sealed items, if they are yours"
    )
    p.add_argument("--peers", type=_positive, default=1, metavar="N", help="start N peers as N processes (default: 1)")
    p.add_argument("--rounds", type=_positive, metavar="N", help="play N rounds, then leave (default: until Ctrl-C)")
    p.add_argument("--home", type=Path, help="folder for key, journal and checkpoints (default: below ~/.swarm)")
    p.add_argument("--name", help="how others see this peer (default: two words that follow from its id)")
    p.add_argument("--summary", type=Path, metavar="FILE", help="write what came of it as JSON at the end")
    p.add_argument("--plain", action="store_true", help="one JSON object per event instead of the live display")
    p.add_argument(
        "--dashboard",
        type=port_number,
        nargs="?",
        const=DASHBOARD,
        metavar="PORT",
        help=f"show it in the browser too, on this machine (port: {DASHBOARD})",
    )
    p.add_argument("--track", choices=TRACKERS, help="give this peer's numbers to a tracker too; offline works")
    p.add_argument(
        "--wait-for", type=_positive, default=1, metavar="N", help="start the first round when N peers are here"
    )
    chain = p.add_argument_group("chain")
    chain.add_argument("--rpc", metavar="URL", help="JSON-RPC of a chain (default: a development chain of its own)")
    chain.add_argument(
        "--contract", metavar="ADDR", help="a swarm's registry on that chain (default: deploy a new one)"
    )
    chain.add_argument(
        "--chain-port", type=port_number, default=0, metavar="PORT", help="port of the development chain"
    )
    network = p.add_argument_group("network")
    network.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    network.add_argument("--port", type=port_number, default=0, help="port to listen on (default: any that is free)")
    network.add_argument("--announce-host", metavar="ADDR", help="address under which others reach this machine")
    network.add_argument(
        "--announce",
        action="append",
        default=[],
        metavar="MULTIADDR",
        help="the same where a router maps another port, such as /ip4/203.0.113.7/tcp/4001; repeat it for several",
    )
    network.add_argument(
        "--relay",
        action="append",
        default=[],
        metavar="MULTIADDR",
        help="a peer that passes connections on to this one, which nobody reaches; repeat it for several "
        "(default: found by itself, in minutes)",
    )
    device = p.add_argument_group("device")
    device.add_argument("--device", help="cuda, mps or cpu (default: the best one here)")
    device.add_argument("--threads", type=_positive, metavar="N", help="CPU threads of the model")
    device.add_argument(
        "--sampler", choices=("local", "vllm"), default="local", help="vllm: pip install 'rl-swarm[vllm]', for CUDA"
    )
    p.add_argument(
        "--twin",
        type=_share,
        metavar="SHARE",
        help="share of this peer's work for a twin that learns alone, which tells what the swarm has brought; 0: none "
        "(default: 0.05, none where more than 25 million weights are trained)",
    )
    p.add_argument(
        "--no-practice",
        action="store_true",
        help="only wait while waiting for others, in place of sampling for the own next update (always with --peers)",
    )
    p.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0 when every peer finished, 2 for an error that a person can mend."""
    options = parser().parse_args(arguments)
    plain = options.plain or not sys.stdout.isatty()
    sink: Sink
    try:
        if plain:
            return _run(options, PlainSink())
        with Display() as sink:
            return _run(options, sink)
    except SwarmError as error:
        if plain:
            PlainSink()({"at": round(time.time(), 3), "event": "error", "what": str(error)})
        print(f"swarm: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, sink: Sink) -> int:
    # Libraries draw bars of their own over the display otherwise; they read these when they are imported.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    stop = threading.Event()
    _stop_on_signals(stop)
    if options.supervised:
        end_with_parent(lambda: _leave_after(ORPHAN_S, stop))
    invite = _decode(options.invite) if options.invite else None
    recipe = catalogue.find(options.recipe) if options.recipe else None
    _check_summary(options.summary)
    check(options.track)
    if options.peers > 1:
        from swarm.local import LocalSwarm

        summary = LocalSwarm(options, recipe, sink, stop).run()
    else:
        summary = _run_peer(options, invite, recipe, sink, stop)
    if summary is None:
        return 1
    if options.summary:
        partial = options.summary.with_name(options.summary.name + ".partial")
        partial.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        partial.replace(options.summary)
    return 0 if all(peer["finished"] for peer in summary["peers"]) else 1


def _run_peer(
    options: argparse.Namespace, invite: Any, recipe: Recipe | None, sink: Sink, stop: threading.Event
) -> dict[str, Any] | None:
    emit = Emitter(sink, options.name or "")
    emit("starting", what="loading torch and the other libraries", expect_s=10)
    # Imported here: torch takes seconds, and --help or a wrong recipe should not wait for them.
    from swarm.dashboard.command import beside
    from swarm.round.home import HomeInUse
    from swarm.round.options import Options
    from swarm.round.peer import Peer
    from swarm.round.schedule import Stopped

    for home in _homes(options, invite, recipe):
        _log_to(home)
        peer = Peer(
            Options(
                home=home,
                invite=invite,
                recipe=recipe,
                model=options.model,
                rounds=options.rounds,
                name=options.name,
                rpc=options.rpc,
                contract=options.contract,
                host=options.host,
                port=options.port,
                chain_port=options.chain_port,
                announce_host=options.announce_host,
                announce=tuple(options.announce),
                relays=tuple(options.relay),
                device=options.device,
                threads=options.threads,
                sampler=options.sampler,
                wait_for=options.wait_for,
                openings=options.openings,
                twin=options.twin,
                practice=not options.no_practice,
            ),
            emit,
            stop,
        )
        try:
            with beside(home, options.dashboard, emit), tracked(options.track, home, emit):
                return peer.run()
        except HomeInUse:
            if options.home is not None:
                raise
        except Stopped:
            emit("stopped", summary=None)
            return None
    raise SwarmError("a hundred peers run on this machine already; name a folder with --home")


def _homes(options: argparse.Namespace, invite: Any, recipe: Recipe | None) -> list[Path]:
    """The folder that was named; else the default one and, while peers of this machine have it, those after it."""
    if options.home is not None:
        return [options.home]
    if invite is not None:
        name = f"{invite.chain_id}-{invite.contract[2:10].lower()}"
    else:
        name = recipe.name if recipe else catalogue.DEFAULT
    base = HOMES.expanduser() / name
    return [base, *[base.with_name(f"{name}-{number}") for number in range(2, 100)]]


def _decode(text: str) -> Any:
    from swarm.network.invite import Invite

    return Invite.decode(text)


def _check_summary(path: Path | None) -> None:
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise SwarmError(f"the summary cannot be written to {path}; name a file in a folder that exists")


def _stop_on_signals(stop: threading.Event) -> None:
    """The first Ctrl-C ends what runs in good order, the second one at once; helpers end with their parent."""

    def handle(number: int, _: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)

    def watch() -> None:
        stop.wait()
        _leave_after(PATIENCE_S, stop)

    threading.Thread(target=watch, name="leave", daemon=True).start()


def _leave_after(seconds: float, stop: threading.Event) -> None:
    """Ask for an end in good order, and end anyway after a while, however deep in arithmetic: the journal is safe."""
    stop.set()
    time.sleep(seconds)
    os._exit(1)


def _log_to(home: Path) -> None:
    """Warnings and details go to a file: the terminal belongs to the display."""
    folder = home.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = logging.FileHandler(folder / "peer.log", encoding="utf-8")
    except OSError as error:
        raise SwarmError(f"the home {folder} cannot be used: {error.strerror}; name another with --home") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for noisy in ("urllib3", "httpx", "transformers", "datasets", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("a share from 0 to 1")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
