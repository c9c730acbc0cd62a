"""Who is heard in a stage, over an in-memory network."""

import time

from swarm.identity.key import Identity
from swarm.recipe import catalogue
from swarm.round.exchange import Exchange, in_proportion
from swarm.round.records import StageNote
from swarm.round.wire import note_bytes
from swarm.simulate.network import Ether, SimulatedNetwork

ME, ANN, BOB = (Identity(bytes([number]) * 32) for number in (1, 2, 3))


def test_a_stage_is_over_as_soon_as_all_expected_have_announced():
    ether = Ether("1:0xswarm")
    note = note_bytes(StageNote(sha256="ab" * 32, size=1, groups=0))
    for who in (ANN, BOB):
        SimulatedNetwork(ether, who).announce("7/answer", note, 60)
    exchange = Exchange(SimulatedNetwork(ether, ME), ether.swarm_id, catalogue.find("tiny"))
    started = time.time()
    heard = exchange.wait(7, "answer", lambda: {ANN.peer_id}, started + 60)
    assert set(heard) == {ANN.peer_id, BOB.peer_id}
    assert time.time() < started + 30


def test_traffic_to_all_becomes_rarer_in_proportion():
    assert [in_proportion(peers) for peers in (1, 50, 100, 1000)] == [1, 1, 2, 20]
