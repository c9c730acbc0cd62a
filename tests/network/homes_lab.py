"""Two homes behind NATs and a public relay, in network namespaces. Run by test_homes.py inside a namespace of its own.

    home a: 192.168.1.2 -- router (masquerade) 45.10.0.21 --+-- 45.10.0.11 relay, the swarm's founder
    home b: 192.168.1.2 -- router (masquerade) 45.10.0.22 --+-- 45.10.0.12 relay

Prints one JSON object: what the peers in the homes saw.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.network.network_peers import ROOT, RemotePeer, until

NAT = (
    "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; };"
    "add rule ip nat post oifname wan masquerade fully-random"
)
"""A port of the router's own choice for each remote address, so that no hole can be punched: all goes over a relay."""
FILTER = (
    "add table ip filter; add chain ip filter gate { type filter hook forward priority 0; policy drop; };"
    "add rule ip filter gate iifname lan accept; add rule ip filter gate ct state established,related accept"
)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def inside(space: str, *words: str) -> None:
    ip("netns", "exec", space, *words)


def wire(space: str, name: str, address: str, other_space: str, other_name: str, other_address: str | None) -> None:
    """A cable between two namespaces; with no `other_address` the other end becomes a port of the bridge there."""
    ip("link", "add", "name", name, "netns", space, "type", "veth", "peer", "name", other_name, "netns", other_space)
    inside(space, "ip", "addr", "add", address, "dev", name)
    if other_address:
        inside(other_space, "ip", "addr", "add", other_address, "dev", other_name)
    else:
        inside(other_space, "ip", "link", "set", other_name, "master", "bridge")
    for where, what in ((space, name), (other_space, other_name)):
        inside(where, "ip", "link", "set", what, "up")


def build() -> None:
    spaces = ["internet", "relay1", "relay2", "router_a", "router_b", "home_a", "home_b"]
    for space in spaces:
        ip("netns", "add", space)
        inside(space, "ip", "link", "set", "lo", "up")
    inside("internet", "ip", "link", "add", "bridge", "type", "bridge")
    inside("internet", "ip", "link", "set", "bridge", "up")
    for space, last in (("relay1", 11), ("relay2", 12), ("router_a", 21), ("router_b", 22)):
        wire(space, "wan", f"45.10.0.{last}/24", "internet", f"to_{space}", None)
    for home in ("a", "b"):
        router = f"router_{home}"
        wire(f"home_{home}", "eth", "192.168.1.2/24", router, "lan", "192.168.1.1/24")
        inside(f"home_{home}", "ip", "route", "add", "default", "via", "192.168.1.1")
        inside(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for rules in (NAT, FILTER):
            inside(router, "nft", rules)


class Housed(RemotePeer):
    """A peer in a namespace."""

    def __init__(self, space: str, home: Path, bootstrap: list[str], **reach: Any) -> None:
        self.prefix = ("ip", "netns", "exec", space)
        super().__init__(home, bootstrap, reach={"host": "0.0.0.0", "port": 4001, **reach})


def main() -> None:
    build()
    with tempfile.TemporaryDirectory(prefix="homes-") as folder:
        base = Path(folder)
        peers: list[Housed] = []
        try:
            founder = Housed("relay1", base / "r1", [], announce_host="45.10.0.11").ready()
            peers.append(founder)
            over_quic = [address for address in founder.addresses if "/quic-v1" in address]
            peers.append(Housed("relay2", base / "r2", over_quic, announce_host="45.10.0.12").ready())
            ways = peers[1].call("ways")[founder.peer_id]
            relays = [peers[0].addresses[0], peers[1].addresses[0]]
            homes = [Housed(f"home_{name}", base / name, founder.addresses, relays=relays) for name in ("a", "b")]
            peers += homes
            a, b = (home.ready() for home in homes)
            ref = a.call("put_random", 300_000)
            a.call("announce", "slot", "from home a")
            heard = until(lambda: b.call("read", "slot").get(a.peer_id), 30)
            until(lambda: b.call("connect", a.addresses), 60)
            fetched = b.call("fetch", ref["sha256"], ref["size"], [a.peer_id])
            saw = {"addresses": a.addresses, "heard": heard, "fetched": fetched, "wanted": ref["size"], "ways": ways}
            print(json.dumps(saw))
        finally:
            for peer in peers:
                peer.kill()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
