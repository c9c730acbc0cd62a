"""Who is heard in a stage, over an in-memory network."""

import time

import pytest

from swarm.identity.key import Identity
from swarm.recipe import catalogue
from swarm.round import exchange as exchange_module
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


def test_other_work_is_done_while_waiting_and_never_past_the_deadline(monkeypatch):
    ether = Ether("1:0xswarm")
    exchange = Exchange(SimulatedNetwork(ether, ME), ether.swarm_id, catalogue.find("tiny"))
    now, pieces, slept = [1000.0], iter([2.0, 5.0, 1.0, None]), []
    monkeypatch.setattr(exchange_module.time, "time", lambda: now[0])

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    def work():
        length = next(pieces)
        now[0] += length or 0.0
        return length is not None

    monkeypatch.setattr(exchange_module.time, "sleep", sleep)
    assert exchange.wait(7, "answer", lambda: {ANN.peer_id}, 1010.0, work) == {}
    assert now[0] == 1010.0, "a piece of up to 5 s does not begin 3 s before the end"
    assert sum(slept) == pytest.approx(3.0) and next(pieces) == 1.0
