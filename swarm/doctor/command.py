"""swarm doctor [INVITE]: what keeps this machine from taking part in a swarm, in one sentence each, and what to do.

Ends with status 0 if nothing does, with 1 if something does, and with 2 if it was called wrongly.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from swarm.dashboard.port import port_number
from swarm.doctor import clock, machine, outside
from swarm.doctor.findings import Finding, as_json, as_text, is_ill, run
from swarm.errors import SwarmError
from swarm.join import HOMES
from swarm.network.addresses import is_loopback
from swarm.network.daemon import quiet_hivemind
from swarm.network.invite import Invite
from swarm.network.reach import Reach
from swarm.recipe import catalogue

NO_INVITE = "give an invite to have the swarm's chain and peers looked at too"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="swarm doctor", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("invite", nargs="?", metavar="INVITE", help="of the swarm to be joined")
    p.add_argument("--home", type=Path, default=HOMES, metavar="DIR", help="where the peer will keep its files")
    p.add_argument("--recipe", metavar="NAME", help="recipe whose model is looked for (default: the default recipe)")
    p.add_argument("--model", help="model that the peer will use instead of the recipe's")
    p.add_argument("--device", help="cuda, mps or cpu (default: the best one here)")
    p.add_argument("--rpc", metavar="URL", help="JSON-RPC of the chain, instead of the invite's")
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    p.add_argument("--port", type=port_number, default=0, help="port to listen on (default: any that is free)")
    p.add_argument("--announce-host", metavar="ADDR", help="address under which others reach this machine")
    p.add_argument("--relay", action="append", default=[], metavar="MULTIADDR", help="relay to use (may be repeated)")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        invite = Invite.decode(options.invite) if options.invite else None
        model = options.model or catalogue.find(options.recipe or catalogue.DEFAULT).model.id
        reach = Reach(options.host, options.port, options.announce_host, relays=tuple(options.relay))
        is_loopback(reach.host)
    except SwarmError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    quiet_hivemind()
    findings = examine(options, invite, model, reach)
    print(as_json(findings) if options.json else as_text(findings))
    return 1 if is_ill(findings) else 0


def examine(options: argparse.Namespace, invite: Invite | None, model: str, reach: Reach) -> list[Finding]:
    clocks = outside.Clocks()
    findings = [
        *run("disk", lambda: [machine.disk(options.home.expanduser())]),
        *run("memory", lambda: [machine.memory()]),
        *run("device", lambda: [machine.device(options.device)]),
        *run("model", lambda: [machine.model(model)]),
        *run("port", lambda: machine.ports(reach.host, reach.port)),
    ]
    rpc = options.rpc or (invite.chain_rpc if invite else "")
    if rpc:
        findings += run("chain", lambda: outside.chain(rpc, invite, clocks))
    else:
        findings.append(Finding("chain", "skipped", NO_INVITE if invite is None else "this swarm has no chain"))
    if invite:
        findings += run("peers", lambda: outside.peers(invite, reach, clocks))
    else:
        findings += [Finding(about, "skipped", NO_INVITE) for about in ("peers", "reach", "relay")]
    findings += run("clock", lambda: [clock.judge(clocks.readings, clocks.chain_ahead_s)])
    return findings
