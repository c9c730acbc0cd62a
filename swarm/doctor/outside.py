"""What the doctor sees of the world: the chain, the other peers, and whether they can reach this machine."""

import email.utils
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from eth_utils.address import to_checksum_address

from swarm.chain.client import Chain
from swarm.doctor.findings import Finding
from swarm.errors import SwarmError
from swarm.identity.key import load_or_create
from swarm.network.announcements import Refused
from swarm.network.dialback import Answer, Outcome
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.network.reach import Reach

CHAIN_TIMEOUT_S = 10.0
OLD_BLOCK_S = 600.0
_ASKED = 3


@dataclass
class Clocks:
    """What others say about the time, collected on the way: seconds ahead of this machine's clock, by source."""

    readings: dict[str, float] = field(default_factory=dict)
    chain_ahead_s: float | None = None


def chain(rpc: str, invite: Invite | None, clocks: Clocks) -> Iterator[Finding]:
    """`rpc`: the URL to ask, of the invite's chain if there is an invite."""
    started = time.monotonic()
    try:
        asked = Chain(rpc, CHAIN_TIMEOUT_S, invite.chain_id if invite else None)
        head = asked.head()
        if invite and not asked.code(invite.contract):
            yield Finding(
                "chain",
                "problem",
                f"there is no contract at {invite.contract} on chain {asked.chain_id}; ask for a newer invite",
            )
            return
    except SwarmError as error:
        yield Finding("chain", "problem", f"{error}; without a chain a peer trains alone")
        return
    took_s, old_s = time.monotonic() - started, time.time() - head.timestamp
    clocks.chain_ahead_s = -old_s
    _read_server_clock(rpc, clocks)
    block = f"its newest block {head.number} is {max(0, old_s):.0f} s old"
    told = f"chain {asked.chain_id} answered in {took_s:.1f} s, {block}"
    if old_s > OLD_BLOCK_S:
        yield Finding("chain", "warning", f"{told}: the node may be behind or its chain idle; try another --rpc")
    else:
        yield Finding("chain", "ok", told)


def _read_server_clock(rpc: str, clocks: Clocks) -> None:
    """The Date of the RPC's web server: whole seconds, so it is half a second off on average."""
    try:
        answer = urllib3.PoolManager().request("GET", rpc, timeout=3.0, retries=False, preload_content=False)
        date = email.utils.parsedate_to_datetime(answer.headers["Date"])
        answer.release_conn()
    except (urllib3.exceptions.HTTPError, KeyError, TypeError, ValueError, OSError):
        return
    clocks.readings["the chain's server"] = date.timestamp() + 0.5 - time.time()


def peers(invite: Invite, reach: Reach, clocks: Clocks) -> Iterator[Finding]:
    """Join with a key that is thrown away, and ask other peers to dial this machine."""
    with tempfile.TemporaryDirectory(prefix="swarm-doctor-") as folder:
        key_file = Path(folder) / "identity.key"
        try:
            network = Network.start(
                load_or_create(key_file),
                key_file,
                f"{invite.chain_id}:{to_checksum_address(invite.contract)}",
                blob_dir=Path(folder) / "blobs",
                is_member=lambda _: True,
                bootstrap=invite.bootstrap,
                reach=reach,
            )
        except SwarmError as error:
            yield Finding("peers", "problem", str(error))
            return
        with network:
            yield from _met(network, invite, reach, clocks)


def _met(network: Network, invite: Invite, reach: Reach, clocks: Clocks) -> Iterator[Finding]:
    known = network.peers()
    if not known:
        yield Finding(
            "peers",
            "problem",
            f"none of {len(invite.bootstrap)} addresses in the invite answers; they may have left, or a firewall here "
            "stops what goes out: ask for a newer invite",
        )
        return
    yield Finding("peers", "ok", f"{len(known)} peers answer")
    answers: list[Answer] = []
    port = int(network.addresses[0].split("/tcp/")[1].split("/")[0]) if "/tcp/" in network.addresses[0] else reach.port
    for peer_id in known[:_ASKED]:
        asked = time.time()
        try:
            answer = network.dial_back(peer_id, port)
        except (SwarmError, TimeoutError, OSError, Refused):
            continue
        answers.append(answer)
        # It read its clock somewhere between our question and its answer, most likely at the end: it dials first.
        clocks.readings[f"peer {peer_id[-6:]}"] = answer.clock - time.time() + min(1.0, time.time() - asked) / 4
    yield reachable(answers, port)
    yield relayed(network.addresses, answers)


def reachable(answers: list[Answer], port: int) -> Finding:
    outcomes = [answer.outcome for answer in answers]
    if Outcome.REACHED in outcomes:
        return Finding("reach", "ok", f"another peer reached this machine on port {port}")
    if Outcome.NOT_REACHED in outcomes:
        return Finding(
            "reach",
            "warning",
            f"no other peer reaches TCP port {port} of this machine; forward it in the router and open it in the "
            "firewall, or name a relay with --relay",
        )
    if Outcome.RELAYED in outcomes:
        return Finding("reach", "warning", "the peers that were asked see this machine through a relay only")
    return Finding("reach", "skipped", "no peer was free to dial this machine; ask again in a minute")


def relayed(addresses: list[str], answers: list[Answer]) -> Finding:
    if any("/p2p-circuit" in address for address in addresses):
        return Finding("relay", "ok", "a relay passes connections on to this machine")
    if any(answer.outcome is Outcome.REACHED for answer in answers):
        return Finding("relay", "ok", "no relay is needed")
    return Finding(
        "relay",
        "warning",
        "no relay passes connections on to this machine; give --host 0.0.0.0 and, with --relay, the address of a peer "
        "that can be reached",
    )
