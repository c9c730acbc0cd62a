"""A peer in a process of its own, steered by JSON lines. Run by the tests, which kill, freeze and interrupt it."""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError

from swarm.identity.key import load_or_create
from swarm.network import BlobRef, Network, UploadLimits
from swarm.network.addresses import check_address
from swarm.network.limits import Rate
from swarm.network.reach import Reach

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, lambda *_: None)
    home = Path(settings["home"])
    limits = UploadLimits()
    if settings.get("bytes_per_s"):
        limits = UploadLimits(bytes_per_s=Rate(settings["bytes_per_s"], settings["bytes_per_s"]))
    network = Network.start(
        load_or_create(home / "key"),
        home / "key",
        settings["swarm_id"],
        blob_dir=home / "blobs",
        is_member=lambda _: True,
        bootstrap=settings["bootstrap"],
        upload_limits=limits,
        reach=Reach(**settings.get("reach", {})),
    )
    commands = {
        "announce": lambda slot, value: network.announce(slot, value.encode(), 600).expires,
        "read": lambda slot: {peer: said.value.decode() for peer, said in network.read(slot).items()},
        "put_random": lambda size: vars(network.put(os.urandom(size))),
        "put_hex": lambda data: vars(network.put(bytes.fromhex(data))),
        "fetch": lambda sha256, size, providers: len(network.fetch(BlobRef(sha256, size), providers, 20)),
        "fetch_all": lambda wanted: sorted(
            ref.sha256
            for ref in network.fetch_many({BlobRef(sha, size): [peer] for peer, (sha, size) in wanted.items()}, 20)
        ),
        "bytes_in": lambda: network.traffic().bytes_in,
        "bytes_out": lambda: network.traffic().bytes_out,
        "connect": lambda addresses: network.connect(addresses, 10) and network._call(dialled(network, addresses), 20),
        "ways": lambda: network._call(ways(network), 5),
        "close": lambda: network.close(),
    }
    say({"peer_id": network.peer_id, "addresses": network.addresses, "daemon": network._daemon.pid})
    for line in sys.stdin:
        name, arguments = json.loads(line)
        say(commands[name](*arguments))


async def dialled(network: Network, addresses: list[str]) -> bool:
    """Whether the peer at one of these addresses, and not only some other peer, can be dialled."""
    peer, _ = check_address(addresses[0])
    ways = [way for each, way in map(check_address, addresses) if each == peer]
    try:
        await network._p2p._client.connect(peer, ways)
    except P2PDaemonError:
        return False
    return True


async def ways(network: Network) -> dict[str, list[str]]:
    """The addresses over which this peer is connected with others, by peer."""
    return {
        info.peer_id.to_base58(): [str(address) for address in info.addrs] for info in await network._p2p.list_peers()
    }


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
