"""How others reach a peer: what is announced, what p2pd is told, and one sentence for what does not fit."""

import pytest

from swarm.errors import SwarmError
from swarm.identity.key import Identity
from swarm.network.addresses import well_formed, worth_telling
from swarm.network.daemon import Daemon
from swarm.network.reach import Reach

PEER = Identity(b"\x07" * 32).peer_id
RELAY = f"/ip4/198.51.100.7/tcp/4001/p2p/{PEER}"


@pytest.mark.parametrize(
    ("reach", "sentence"),
    [
        (Reach(host="localhost"), "not an IP address"),
        (Reach(announce_host="not a host"), "neither an IP address nor a host name"),
        (Reach(announce=("/ip4/198.51.100.7/tcp/0",)), "cannot be announced"),
        (Reach(announce=("/ip4/198.51.100.7",)), "cannot be announced"),
        (Reach(announce=(RELAY,)), "cannot be announced"),
        (Reach(announce=("/ip4/198.51.100.7/udp/4001/quic",)), "cannot be announced"),
        (Reach(announce=("/ip4/198.51.100.7/tcp/1",), announce_host="198.51.100.7"), "give one of them"),
        (Reach(relays=("/ip4/198.51.100.7/tcp/1",)), "--relay holds"),
        (Reach(relays=(f"{RELAY}/p2p-circuit/p2p/{PEER}",)), "itself behind a relay"),
        (Reach(relays=(RELAY,), announce_host="198.51.100.7"), "--relay, or --announce"),
    ],
)
def test_what_does_not_fit_is_told(reach: Reach, sentence: str) -> None:
    with pytest.raises(SwarmError, match=sentence) as caught:
        reach.check(PEER)
    assert "\n" not in str(caught.value)


def test_what_fits() -> None:
    mapped = Reach("0.0.0.0", 4001, announce=("/ip4/198.51.100.7/tcp/9000", "/dns/swarm.example/udp/9/quic-v1"))
    mapped.check(PEER)
    assert mapped.announced(4001) == list(mapped.announce) and mapped.reachability == "public" and mapped.outside
    home = Reach("0.0.0.0", relays=(RELAY,))
    home.check(PEER)
    assert home.announced(4001) == [] and home.reachability == "private"
    assert home.listened(4001) == ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]
    assert not Reach().outside and Reach().reachability is None


def test_named_relays_are_enough_for_p2pd() -> None:
    named = Daemon._make_process_args("p2pd", trustedRelays=RELAY)
    assert "-relayDiscovery=0" in named and f"-trustedRelays={RELAY}" in named
    assert "-relayDiscovery=1" in Daemon._make_process_args("p2pd")


def test_the_most_useful_address_comes_first() -> None:
    loopback, private, public = (f"/ip4/{ip}/tcp/1/p2p/{PEER}" for ip in ("127.0.0.1", "10.0.0.1", "45.0.0.1"))
    relayed = f"/ip4/45.0.0.2/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}"
    assert worth_telling([loopback, private, relayed, public]) == [public, relayed, private]
    assert worth_telling([loopback]) == [loopback]
    assert well_formed(["nonsense", relayed, "/ip4/1.2.3.4/udp/1/quic/p2p/" + PEER]) == [relayed]
