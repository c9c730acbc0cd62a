"""Who is here and how they are found again: versions in heartbeats, and the cache of addresses."""

import json
import time

from swarm import PROTOCOL
from swarm.identity.key import Identity
from swarm.journal.journal import Journal
from swarm.round.peer_cache import MAX_ADDRESSES, PeerCache
from swarm.round.presence import LIFETIME_S, LONGEST_LIFETIME_S, SLOT, Presence
from swarm.round.records import LiveNote
from swarm.simulate.network import Ether, SimulatedNetwork

NOTE = LiveNote(
    protocol=PROTOCOL,
    version="0.1.0",
    name="n",
    model="m",
    device="d",
    round=-1,
    tokens_per_s=0,
    address="",
    recipe_bytes=0,
)


def test_another_version_is_recognised_whatever_else_it_says():
    ether = Ether("1:0xswarm")
    seen = []
    here = Presence(SimulatedNetwork(ether, Identity(b"\x01" * 32)), NOTE, lambda *who: seen.append(who))
    for secret, said in enumerate(
        (
            {"protocol": 99, "whatever": [1]},
            {"protocol": "99"},
            {"protocol": PROTOCOL, "whatever": 1},
            NOTE.model_dump(),
        ),
        2,
    ):
        other = SimulatedNetwork(ether, Identity(bytes([secret]) * 32))
        other.announce(SLOT, json.dumps(said).encode(), LIFETIME_S)
    assert set(here.refresh()) == {Identity(b"\x05" * 32).peer_id}
    ((_, foreign),) = seen
    assert foreign == {Identity(b"\x02" * 32).peer_id}


def test_in_a_large_swarm_heartbeats_are_rarer_and_live_longer():
    ether = Ether("1:0xswarm")
    here = Presence(SimulatedNetwork(ether, Identity(b"\x01" * 32)), NOTE, lambda live, foreign: None)
    said = json.dumps(NOTE.model_dump()).encode()
    claims = {secret: LIFETIME_S for secret in range(2, 101)} | {200: 4 * LIFETIME_S, 201: 3600.0}
    for secret, lifetime_s in claims.items():
        SimulatedNetwork(ether, Identity(bytes([secret]) * 32)).announce(SLOT, said, lifetime_s)
    live = here.refresh()
    assert Identity(bytes([200]) * 32).peer_id in live, "two times what it is here, for those who see more peers"
    assert Identity(bytes([201]) * 32).peer_id not in live
    here._beat()
    own = here._network.read(SLOT)[here._network.peer_id]
    assert abs(own.expires - time.time() - 2 * LIFETIME_S) < 5 and here._lifetime_s(10**6) == LONGEST_LIFETIME_S


def test_the_cache_keeps_the_latest_address_of_each_peer_and_nobody_elses(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    cache = PeerCache(journal)
    ids = [Identity(number.to_bytes(32, "big")).peer_id for number in range(1, 41)]
    cache.add({ids[0]: f"/ip4/198.51.100.1/tcp/1/p2p/{ids[0]}", ids[1]: f"/ip4/198.51.100.2/tcp/1/p2p/{ids[1]}"})
    cache.add(
        {
            ids[0]: f"/ip4/198.51.100.9/tcp/1/p2p/{ids[0]}",
            ids[2]: f"/ip4/198.51.100.3/tcp/1/p2p/{ids[1]}",  # in another's name
            ids[3]: f"nonsense/p2p/{ids[3]}",
        }
    )
    assert PeerCache(journal).addresses() == [
        f"/ip4/198.51.100.9/tcp/1/p2p/{ids[0]}",
        f"/ip4/198.51.100.2/tcp/1/p2p/{ids[1]}",
    ]
    cache.add({peer: f"/ip4/198.51.100.4/tcp/1/p2p/{peer}" for peer in ids[3:]})
    assert len(cache.addresses()) == MAX_ADDRESSES
    assert PeerCache(Journal(tmp_path / "other.sqlite")).addresses() == []
