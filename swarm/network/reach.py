"""How others reach this peer: what it listens on, what it tells them, and whose relay it uses behind a router."""

from dataclasses import dataclass

from swarm.errors import SwarmError
from swarm.network.addresses import announced_addresses, check_address, is_loopback, listen_addresses


@dataclass(frozen=True)
class Reach:
    """Where a peer listens, and how others come to it."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    announce_host: str | None = None
    """IP address or host name that others are told, with the port that is listened on."""
    announce: tuple[str, ...] = ()
    """Multiaddrs that others are told instead, where a router maps another port to this machine."""
    relays: tuple[str, ...] = ()
    """Multiaddrs with peer ids of peers that can be reached and pass connections on to this one, which cannot."""

    def check(self, peer_id: str) -> None:
        """Raises SwarmError with one sentence about the first thing that does not fit; `peer_id` is of this peer."""
        is_loopback(self.host)
        if self.relays and (self.announce or self.announce_host):
            raise SwarmError(
                "a relay is for a peer that nobody reaches, an announced address for one that everybody reaches; "
                "give --relay, or --announce, or --announce-host"
            )
        if self.announce and self.announce_host:
            raise SwarmError("--announce takes the place of --announce-host; give one of them")
        if self.announce_host:
            announced_addresses(self.announce_host, self.port or 1)
        for address in self.announce:
            check_announced(address, peer_id)
        for address in self.relays:
            check_relay(address)

    @property
    def outside(self) -> bool:
        """Whether other machines are meant to reach this peer."""
        return bool(self.relays) or not is_loopback(self.host)

    @property
    def reachability(self) -> str | None:
        """What p2pd need not find out: "public" where an address is announced, "private" where a relay is named.

        A public peer is a relay for others from the start, and a private one asks its relay at once.
        """
        if self.relays:
            return "private"
        return "public" if self.announce or self.announce_host else None

    def listened(self, port: int) -> list[str]:
        """The multiaddrs that p2pd listens on."""
        return listen_addresses(self.host, port)

    def announced(self, port: int) -> list[str]:
        """The multiaddrs that others are told; empty where p2pd finds them out."""
        if self.announce_host:
            return announced_addresses(self.announce_host, port)
        return list(self.announce)


def check_announced(address: str, peer_id: str) -> None:
    """Raises SwarmError if `address` is no multiaddr, without a peer id, under which a peer can be reached."""
    try:
        _, way = check_address(f"{address}/p2p/{peer_id}")
        if "/p2p/" not in address and "0" not in [way.get(name) for name in ("tcp", "udp") if name in way]:
            return
    except SwarmError:
        pass
    raise SwarmError(
        f"{address[:120]!r} cannot be announced; give a multiaddr with a port and without a peer id, "
        "such as /ip4/203.0.113.7/tcp/4001 or /dns/swarm.example/udp/4001/quic-v1"
    )


def check_relay(address: str) -> None:
    """Raises SwarmError if `address` is no multiaddr of a peer that can be reached itself."""
    check_address(address, "--relay")
    if "/p2p-circuit" in address:
        raise SwarmError(f"the relay {address[:120]!r} is itself behind a relay; name a peer that can be reached")
