"""One process of `bench.network`: some of the peers of one way to exchange a round's payloads.

Read and written as JSON lines: say {"bootstrap": ...}, hear the bootstraps of all, say {"ready": true}, hear "go",
say when it began and for each peer when it had all that it wanted (seconds of the monotonic clock, null for never),
hear "end". Simulated peers live in virtual time: their seconds are those of their lines and deadlines.
"""

import asyncio
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hivemind.dht import DHTNode
from hivemind.p2p import P2P, PeerID
from hivemind.utils.timed_storage import get_dht_time

from bench.machine import end_with_parent
from swarm.errors import SwarmError
from swarm.identity.key import Identity, load_or_create
from swarm.network import BlobRef, Network, UploadLimits
from swarm.network.announcements import Announcement
from swarm.network.daemon import Daemon, quiet_hivemind
from swarm.round.exchange import POLL_S, in_proportion
from swarm.simulate.clock import virtual_time
from swarm.simulate.network import Ether, SimulatedNetwork
from swarm.simulate.transport import Line, Medium, MemoryP2P

HOME_LINE = Line(latency_s=0.02, bytes_per_s=12.5e6)
"""A simulated peer's: 20 ms and 100 Mbit/s to the middle of the Internet."""
READ_S = 30.0
JOIN_AT_ONCE = 32
SLOT = "1/answer"
LIFETIME_S = 3000.0
GENRL_TIMEOUT_S = 600
GENRL_BEAM = 1000


@dataclass(frozen=True)
class Share:
    """What this process does: its peers are `first` to `first + count - 1` of `peers`."""

    system: str
    simulated: bool
    peers: int
    first: int
    count: int
    payload_bytes: int
    sample: int
    limit_s: float
    seed: int

    def payload(self, index: int) -> bytes:
        """Bytes that nothing compresses."""
        return random.Random(f"{self.seed} {index}").randbytes(self.payload_bytes)

    def sources(self, peer_id: str, authors: Sequence[str]) -> list[str]:
        """As `swarm.round.assignment.sources_of`: those from whom a peer fetches."""
        others = sorted(author for author in authors if author != peer_id)
        draw = random.Random(hashlib.sha256(f"{self.seed} {peer_id}".encode()).digest())
        return draw.sample(others, min(self.sample or len(others), len(others)))


def say(message: object) -> None:
    print(json.dumps(message), flush=True)


def hear() -> Any:
    line = sys.stdin.readline()
    if not line:
        raise SystemExit("the parent has gone")
    return json.loads(line)


# Ours: a signed announcement of each payload, and the payloads from those whom the seed draws.


def announce(network: Network, share: Share, index: int) -> None:
    ref = network.put(share.payload(index))
    with suppress(SwarmError):  # on an overloaded machine it is late, and published by the next tick
        network.announce(SLOT, json.dumps([ref.sha256, ref.size]).encode(), LIFETIME_S)


def collect(network: Network, share: Share, deadline: float) -> float | None:
    """When this peer had the announcements of all and the payloads of those whom the seed draws."""
    said: dict[str, Announcement] = {}
    while time.monotonic() < deadline:
        with suppress(SwarmError):
            said = network.read(SLOT, READ_S)
        if len(said) == share.peers:
            break
        time.sleep(POLL_S)
    sources = share.sources(network.peer_id, list(said))
    wanted = {BlobRef(*json.loads(said[author].value)): [author] for author in sources}
    got: dict[BlobRef, bytes] = {}
    with suppress(SwarmError):
        got = network.fetch_many(wanted, max(0.0, deadline - time.monotonic()))
    return time.monotonic() if len(said) == share.peers and len(got) == len(wanted) else None


def start_ours(share: Share, folder: Path, bootstrap: Sequence[str], index: int) -> Network:
    home = folder / str(index)
    return Network.start(
        load_or_create(home / "key"),
        home / "key",
        "bench",
        blob_dir=home / "blobs",
        is_member=lambda _: True,
        bootstrap=bootstrap,
        upload_limits=UploadLimits(),
    )


def ours(share: Share, folder: Path) -> None:
    first = start_ours(share, folder, [], share.first) if not share.first else None
    say({"bootstrap": first.addresses if first else []})
    bootstrap = hear()
    rest = range(share.first + bool(first), share.first + share.count)
    with ThreadPoolExecutor(4) as pool:
        networks = list(pool.map(lambda index: start_ours(share, folder, bootstrap, index), rest))
    if first:
        networks.insert(0, first)
    say({"ready": True})
    hear()
    began = time.monotonic()
    deadline = began + share.limit_s

    def play(index: int, network: Network) -> float | None:
        announce(network, share, share.first + index)
        return collect(network, share, deadline)

    with ThreadPoolExecutor(share.count) as pool:
        ends = list(pool.map(play, range(share.count), networks))
    say({"began": began, "ends": ends, "bytes": None})
    hear()
    for network in networks:
        network.close()


async def ours_simulated(share: Share) -> None:
    """The same as `announce` and `collect`, of all peers on one loop in virtual time."""
    ether = Ether("bench", HOME_LINE, share.seed, asyncio.get_running_loop())
    say({"bootstrap": []})
    hear()
    identities = [Identity(hashlib.sha256(f"{share.seed} {index}".encode()).digest()) for index in range(share.peers)]
    networks = [SimulatedNetwork(ether, identity) for identity in identities]
    await networks[0].enter()  # the others have somebody to begin with
    for start in range(1, share.peers, JOIN_AT_ONCE):
        await asyncio.gather(*(network.enter() for network in networks[start : start + JOIN_AT_ONCE]))
    say({"ready": True})
    hear()
    before, began = ether.medium.bytes_in.total(), time.monotonic()
    deadline = began + share.limit_s

    async def play(index: int, network: SimulatedNetwork) -> float | None:
        ref = network.put(share.payload(index))
        await network._announce(SLOT, json.dumps([ref.sha256, ref.size]).encode(), LIFETIME_S)
        said: dict[str, Announcement] = {}
        while time.monotonic() < deadline:
            said = await network._read(SLOT, READ_S)
            if len(said) == share.peers:
                break
            await asyncio.sleep(POLL_S * in_proportion(len(said)))
        sources = share.sources(network.peer_id, list(said))
        wanted = {BlobRef(*json.loads(said[author].value)): [author] for author in sources}
        got = await network._fetcher.fetch_many(wanted, deadline)
        return time.monotonic() if len(said) == share.peers and len(got) == len(wanted) else None

    ends = await asyncio.gather(*map(play, range(share.peers), networks))
    say({"began": began, "ends": ends, "bytes": ether.medium.bytes_in.total() - before})
    hear()


# The anchor: GenRL 0.3.0's `HivemindBackend.all_gather_object`, with its defaults, on the same version of hivemind.


async def play_anchor(node: DHTNode, share: Share, index: int, deadline: float) -> float | None:
    """One all-gather: store under the step's key, sleep a second, get until everybody's is there."""
    payload, expires = share.payload(index), get_dht_time() + GENRL_TIMEOUT_S
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            await node.store("0", payload, expires, subkey=str(node.peer_id), beam_size=GENRL_BEAM)
            await asyncio.sleep(1)
            while True:
                found = await node.get("0", latest=True, beam_size=GENRL_BEAM)
                if found is not None and len(found.value) >= share.peers:
                    return time.monotonic()
                await asyncio.sleep(0)
    except TimeoutError:
        return None


async def anchor(share: Share) -> None:
    quiet_hivemind()
    medium = Medium(HOME_LINE, share.seed)

    async def start(index: int, bootstrap: Sequence[str]) -> DHTNode:
        if share.simulated:
            secret = hashlib.sha256(f"{share.seed} {index}".encode()).digest()
            p2p: P2P = await MemoryP2P.join(medium, PeerID.from_base58(Identity(secret).peer_id))
        else:
            p2p = await Daemon.create(initial_peers=bootstrap, startup_timeout=60, auto_nat=False, nat_port_map=False)
        return await DHTNode.create(p2p=p2p, initial_peers=bootstrap, ensure_bootstrap_success=False)

    loop = asyncio.get_running_loop()
    nodes = [] if share.first else [await start(0, [])]
    say({"bootstrap": [str(address) for node in nodes for address in await node.p2p.get_visible_maddrs()]})
    bootstrap = await loop.run_in_executor(None, hear)
    bootstrap = bootstrap or [str(address) for address in await nodes[0].p2p.get_visible_maddrs()]
    gate = asyncio.Semaphore(4)

    async def later(index: int) -> DHTNode:
        async with gate:
            return await start(index, bootstrap)

    nodes += await asyncio.gather(*(later(i) for i in range(share.first + len(nodes), share.first + share.count)))
    say({"ready": True})
    await loop.run_in_executor(None, hear)
    before, began = medium.bytes_in.total(), time.monotonic()
    deadline = began + share.limit_s
    plays = (play_anchor(node, share, share.first + i, deadline) for i, node in enumerate(nodes))
    ends = await asyncio.gather(*plays)
    say({"began": began, "ends": ends, "bytes": medium.bytes_in.total() - before if share.simulated else None})
    await loop.run_in_executor(None, hear)
    for node in nodes:
        await node.p2p.shutdown()


def main() -> None:
    end_with_parent()
    share = Share(**json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory(prefix="bench-network-") as folder:
        if share.system == "anchor":
            with virtual_time() if share.simulated else nullcontext(asyncio.run) as run:
                run(anchor(share))
        elif share.simulated:
            with virtual_time() as run:
                run(ours_simulated(share))
        else:
            ours(share, Path(folder))
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
