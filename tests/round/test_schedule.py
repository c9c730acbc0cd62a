"""Which round a peer plays, with real heartbeats over an in-memory network."""

import threading
import time

import pytest

from swarm import PROTOCOL
from swarm.events import Emitter
from swarm.identity.key import Identity
from swarm.network.node import NetworkStalled
from swarm.recipe import catalogue
from swarm.round.clock import Clock
from swarm.round.exchange import Exchange
from swarm.round.presence import LIFETIME_S, SLOT, Presence
from swarm.round.records import LiveNote
from swarm.round.schedule import Schedule, Stopped
from swarm.round.wire import note_bytes
from swarm.simulate.network import Ether, SimulatedNetwork

RECIPE = catalogue.find("tiny")


class Player:
    """One peer's schedule over the ether."""

    def __init__(self, ether, clock, secret):
        self.identity = Identity(bytes([secret]) * 32)
        self.network = SimulatedNetwork(ether, self.identity)
        self.stop = threading.Event()
        self.note = LiveNote(
            protocol=PROTOCOL, name="n", model="m", device="d", round=-1, tokens_per_s=0.0, address="", recipe_bytes=0
        )
        self.presence = Presence(self.network, self.note, lambda live, foreign: self.seen.append((live, foreign)))
        self.seen = []
        exchange = Exchange(self.network, ether.swarm_id, RECIPE)
        emit = Emitter(lambda event: None, "n")
        self.schedule = Schedule(self.identity.peer_id, clock, exchange, self.presence, emit, self.stop)
        self.presence._beat()

    def claim(self, **update):
        self.network.announce(SLOT, note_bytes(self.note.model_copy(update=update)), LIFETIME_S)


@pytest.fixture
def players():
    ether, clock = Ether("1:0xswarm"), Clock(int(time.time()) - 10, RECIPE.timing)
    return [Player(ether, clock, secret) for secret in (1, 2, 3, 4)]


def test_alone_it_starts_at_the_next_tick(players):
    clock = players[0].schedule.clock
    assert players[0].schedule.first(-1) in (clock.first_after(time.time()), clock.first_after(time.time()) - 1)
    assert players[0].schedule.first(10**6) == 10**6 + 1, "a round that it has played is never played again"


def test_a_newcomer_enters_the_round_of_the_others(players):
    players[0].schedule.begin(8, 1, 0.0)
    players[1].schedule.begin(8, 1, 0.0)
    assert players[2].schedule.first(-1) == 8


def test_a_newcomer_is_not_lured_into_a_round_that_cannot_be(players):
    players[0].schedule.begin(8, 1, 0.0)
    players[1].claim(round=2**52)
    players[3].claim(round=2**40)
    assert players[2].schedule.first(-1) == 8


def test_it_waits_for_those_who_play_and_not_for_those_who_left(players):
    for player in players[:3]:
        player.schedule.begin(8, 1, 0.0)
    me, first, second, other = (player.identity.peer_id for player in players)
    assert players[0].schedule.expected() == {me, first, second}
    players[1].presence.say(leaving=True)
    players[0].presence.refresh()
    assert players[0].schedule.expected() == {me, second}
    players[0].schedule.ended(published={me}, missing={second}, undelivered={other})
    players[0].schedule.begin(9, 2, 0.0)
    players[2].schedule.begin(9, 2, 0.0)
    players[0].presence.refresh()
    assert players[0].schedule.expected() == {me}, "who was waited for in vain is not, in the next round"
    assert players[0].schedule.worth_fetching({second, other}) == {second}, "who was only late is still fetched from"


def test_a_partner_that_has_begun_another_round_is_not_waited_for(players):
    me, coming, elsewhere = (player.identity.peer_id for player in players[:3])
    for player in players[:3]:
        player.schedule.begin(8, 1, 0.0)
    players[0].schedule.ended({me, coming, elsewhere}, set(), set())
    players[2].schedule.begin(12, 2, 0.0)
    players[0].schedule.begin(10, 2, 0.0)
    players[0].presence.refresh()
    assert players[0].schedule.expected() == {me, coming}


def test_parts_that_lost_each_other_find_together_again(players):
    first, second, alone = players[:3]
    number = first.schedule.clock.first_after(time.time()) - 1
    for player in (first, second):
        player.schedule.begin(number, 1, 0.0)
    alone.schedule.begin(number - 5, 1, 0.0)
    assert alone.schedule.following(number - 5) == number, "in time to take part"


def test_the_larger_part_does_not_follow_the_smaller_one(players):
    first, second, alone = players[:3]
    now = first.schedule.clock.first_after(time.time())
    both = {first.identity.peer_id, second.identity.peer_id}
    for player in (first, second):
        player.schedule.begin(now - 5, 1, 0.0)
        player.schedule.ended(both, set(), set())
    alone.schedule.begin(now - 1, 1, 0.0)
    second.schedule._exchange.say_done(now - 5, time.time())
    assert first.schedule.following(now - 5) > now - 1


def test_a_stalled_network_costs_one_heartbeat_and_not_all(players, monkeypatch):
    presence = players[0].presence
    others = {player.identity.peer_id for player in players[1:]}
    presence.refresh()

    def stalled(*_):
        raise NetworkStalled("the network did not answer")

    with monkeypatch.context() as patch:
        for call in ("announce", "read"):
            patch.setattr(players[0].network, call, stalled)
        presence._beat()
        assert presence.refresh().keys() == others, "what was last heard still holds"
    presence.say(round=9)
    assert players[1].presence.refresh()[players[0].identity.peer_id].round == 9


def test_other_versions_are_seen_and_not_waited_for(players):
    players[0].schedule.begin(8, 1, 0.0)
    players[1].claim(round=8, protocol=99)
    players[0].presence.refresh()
    assert players[0].schedule.expected() == {players[0].identity.peer_id}
    assert players[0].seen[-1][1] == {players[1].identity.peer_id}


def test_peers_start_the_next_round_together(players):
    started = {}

    def run(player):
        player.schedule.begin(8, 1, 0.0)
        player.schedule.ended({p.identity.peer_id for p in players[:3]}, set(), set())
        started[player.identity.peer_id] = player.schedule.following(8)

    threads = [threading.Thread(target=run, args=(player,)) for player in players[:3]]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join(20)
    assert len(started) == 3 and len(set(started.values())) == 1


def test_other_work_is_done_until_the_others_have_finished(players):
    first, second = players[:2]
    for player in (first, second):
        player.schedule.begin(8, 1, 0.0)
    for player in (first, second):
        player.presence.refresh()
        player.schedule.ended(
            published={first.identity.peer_id, second.identity.peer_id}, missing=set(), undelivered=set()
        )
    pieces = []

    def piece():
        pieces.append(1)
        if len(pieces) == 3:
            second.schedule._exchange.say_done(8, time.time())
        return True

    assert first.schedule.following(8, piece) > 8
    assert len(pieces) == 3


def test_a_stop_ends_every_wait(players):
    players[0].schedule.begin(8, 1, 0.0)
    players[1].schedule.begin(8, 1, 0.0)
    players[0].stop.set()
    with pytest.raises(Stopped):
        players[0].schedule.gather(9)
    with pytest.raises(Stopped):
        players[0].schedule.following(8)


def test_who_plays_without_publishing_holds_up_nobody(players):
    clock = players[0].schedule.clock
    number = clock.first_after(time.time())
    for player in players[:2]:
        player.schedule.begin(number, 1, 0.0)
        player.schedule.ended({p.identity.peer_id for p in players[:2]}, set(), set())
    players[2].claim(round=number)
    exchange = Exchange(players[1].network, "1:0xswarm", RECIPE)
    exchange.say_done(number, time.time())
    started = time.monotonic()
    assert players[0].schedule.following(number) > number
    assert time.monotonic() - started < 5 < RECIPE.timing.round_s


def test_a_heartbeat_that_claims_a_long_life_is_not_believed(players):
    network = players[1].network
    network.announce(SLOT, note_bytes(players[1].note.model_copy(update={"round": 8})), 3000)
    assert players[1].identity.peer_id not in players[0].presence.refresh()


def test_being_alone_is_said():
    player = Player(Ether("1:0xswarm"), Clock(int(time.time()), RECIPE.timing), 1)
    player.presence.start()
    player.presence.stop()
    assert player.seen[0] == ({}, set())


def test_who_never_says_that_it_has_finished_holds_up_one_round_and_not_the_next():
    """It publishes everything in time and withholds the last word."""
    ether = Ether("1:0xswarm")
    clock = Clock(int(time.time()) - 100, RECIPE.timing.model_copy(update={"round_s": 4}))
    me, mute = Player(ether, clock, 1), Player(ether, clock, 2)
    both = {me.identity.peer_id, mute.identity.peer_id}
    waited = []
    number = clock.first_after(time.time())
    for ordinal in (1, 2):
        me.schedule.begin(number, ordinal, 0.0)
        mute.claim(round=number)
        me.schedule.ended(both, set(), set())
        started = time.monotonic()
        number = me.schedule.following(number)
        waited.append(time.monotonic() - started)
    assert waited[0] > 2 and waited[1] < 2.5, waited


def test_a_crowd_that_only_claims_to_play_costs_one_round_and_not_the_next():
    """Its members say that they are in a later round, to which a peer alone goes over, and never finish it."""
    ether = Ether("1:0xswarm")
    clock = Clock(int(time.time()) - 100, RECIPE.timing.model_copy(update={"round_s": 4}))
    me, *liars = (Player(ether, clock, secret) for secret in (1, 2, 3))
    watched = []
    me.schedule._emit = lambda kind, **fields: watched.append((ordinal, fields["round"]))
    for ordinal in (1, 2):
        claimed = clock.first_after(time.time() - 3)  # too late to answer in it
        me.schedule.begin(claimed - 1, ordinal, 0.0)
        for liar in liars:
            liar.claim(round=claimed)
        me.presence.refresh()
        me.schedule.ended({me.identity.peer_id}, set(), set())
        assert me.schedule.following(claimed - 1) > claimed
        if ordinal == 1:
            assert watched == [(1, claimed)]
    assert len(watched) == 1, "in the second round it does not go over to them"
