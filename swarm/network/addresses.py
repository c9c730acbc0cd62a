"""Multiaddrs, read and written. Promise: a malformed address is one sentence for a person, never a traceback."""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from hivemind.p2p import PeerID
from hivemind.utils.multiaddr import Multiaddr
from hivemind.utils.multiaddr.exceptions import Error as MultiaddrError

from swarm.errors import SwarmError
from swarm.identity.key import public_key_of

MAX_ADDRESS_CHARS = 512
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_P2P_AS_CID = bytes.fromhex("a503290172002508021221")  # /p2p/, 41 bytes: CID version 1, libp2p-key, the peer id
_P2P = bytes.fromhex("a50327002508021221")  # /p2p/, 39 bytes: the peer id, which begins so for every secp256k1 key
_TRANSPORTS = ("ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr")


def check_address(address: str, where: str = "the bootstrap list") -> tuple[PeerID, Multiaddr]:
    """The peer and the way to it, of a multiaddr that ends in /p2p/<peer id>.

    Raises:
        SwarmError: it is not such an address; `where` tells the reader where it stands.
    """
    problem = (
        f"{where} holds {address[:120]!r}, which is not a peer's address; "
        "it must look like /ip4/203.0.113.7/tcp/4001/p2p/16Uiu2HAm..."
    )
    if len(address) > MAX_ADDRESS_CHARS or not re.fullmatch(r"(/[!-.0-~]+)+", address):
        raise SwarmError(problem)
    head, separator, peer_id = address.rpartition("/p2p/")
    if not separator or not head or "/" in peer_id or head.split("/")[1] not in _TRANSPORTS:
        raise SwarmError(problem)
    try:
        public_key_of(peer_id)
        maddr = Multiaddr(head)
        if "quic" in maddr:
            raise SwarmError(f"{where} holds {address[:120]!r}: nobody speaks /quic any more; write /quic-v1")
        if "tcp" not in maddr and "udp" not in maddr and not head.startswith("/dnsaddr/"):
            raise SwarmError(problem)
        return PeerID.from_base58(peer_id), _as_p2pd_reads(maddr)
    except (ValueError, LookupError, TypeError, OSError, MultiaddrError):
        raise SwarmError(problem) from None


def _as_p2pd_reads(way: Multiaddr) -> Multiaddr:
    """hivemind writes the peer id of a relay as a CID, at which p2pd says "length greater than remaining"."""
    return Multiaddr(way.to_bytes().replace(_P2P_AS_CID, _P2P))


def well_formed(addresses: Iterable[str]) -> list[str]:
    """Those that `check_address` accepts: for addresses that others wrote, where a bad one must hinder nobody."""
    good = []
    for address in addresses:
        try:
            check_address(address)
        except SwarmError:
            continue
        good.append(address)
    return good


def is_loopback(host: str) -> bool:
    """Whether the IP address `host` is of this machine only. Raises SwarmError if it is not an IP address."""
    return _ip(host).is_loopback


def listen_addresses(host: str, port: int) -> list[str]:
    """What p2pd listens on: TCP, and QUIC as well where the outside world can reach it."""
    ip = _ip(host)
    tcp = f"/ip{ip.version}/{ip}/tcp/{port}"
    return [tcp] if ip.is_loopback else [tcp, f"/ip{ip.version}/{ip}/udp/{port}/quic-v1"]


def announced_addresses(host: str, port: int) -> list[str]:
    """What others are told, for an IP address or a host name. Raises SwarmError if `host` is neither."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise SwarmError(
                f"the announced host {host[:80]!r} is neither an IP address nor a host name; mend it"
            ) from None
        head = f"/dns/{host}"
    else:
        head = f"/ip{ip.version}/{ip}"
    return [f"{head}/tcp/{port}", f"{head}/udp/{port}/quic-v1"]


def worth_telling(addresses: Sequence[str]) -> list[str]:
    """Those of this peer's addresses that help others most first: public, through a relay, of its own network.

    Loopback addresses are left out when there are others.
    """
    outside = [address for address in addresses if not address.startswith(("/ip4/127.", "/ip6/::1/"))]
    return sorted(outside or addresses, key=_remoteness)


def _remoteness(address: str) -> int:
    if "/p2p-circuit" in address:
        return 1
    try:
        return 0 if ipaddress.ip_address(address.split("/")[2]).is_global else 2
    except ValueError:
        return 0  # a host name


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        raise SwarmError(
            f"the host {host[:80]!r} is not an IP address; use 127.0.0.1, 0.0.0.0 or one of this machine"
        ) from None
