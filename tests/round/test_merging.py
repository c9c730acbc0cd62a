"""Merging over an in-memory network with real tiny learners."""

import time
from collections import Counter

import pytest
import torch

from swarm.identity.key import Identity
from swarm.recipe import catalogue
from swarm.recipe.schema import Merging
from swarm.round import merging
from swarm.round.benefit import Paired, estimate
from swarm.round.clock import Clock
from swarm.round.experience import Group, affordable_groups, choose
from swarm.round.merging import SLOT, MergeNote, Merger
from swarm.round.trial import Trial
from swarm.round.wire import note_bytes
from swarm.simulate.network import Ether, SimulatedNetwork
from swarm.training import wire
from swarm.training.learner import Learner, TrainingGroup
from swarm.training.merging import encode
from swarm.training.obtain import obtain

TINY = catalogue.find("tiny")
ROUND = 7
ENDED = Clock(int(time.time()) - 100, TINY.timing)
"""By which every deadline of round 7 has passed, so that nobody waits."""
RATE = TINY.grpo.learning_rate


class Player:
    """A peer as far as merging needs one."""

    def __init__(self, ether, secret, clock=ENDED, **settings):
        identity = Identity(bytes([secret]) * 32)
        self.me = identity.peer_id
        self.network = SimulatedNetwork(ether, identity)
        self.learner = Learner.load(obtain("tiny", print), TINY.model, TINY.grpo, seed=1, device="cpu", threads=1)
        recipe = TINY.model_copy(
            update={"merging": Merging(**{"validation": 0, "steps": "per_peer", "learning_rate_rise": 1.0, **settings})}
        )
        self.merger = Merger(peer_id=self.me, recipe=recipe, clock=clock, learner=self.learner, network=self.network)

    def practise(self, text="sun>", right="nus", step=1.0):
        """One update that makes one completion likelier, or with a negative step less likely."""
        encode = lambda words: self.learner.encode(words, chat=False, system="")  # noqa: E731
        done = [(encode(word), tuple(-1.0 for _ in word)) for word in (right, right[::-1])]
        self.learner.update([TrainingGroup(encode(text), tuple(done), (step, -step), own=True, temperature=1.0)])
        return self

    def merge(self, rewards=None, alike=frozenset()):
        return self.merger.run(ROUND, b"seed", lambda: alike, rewards or {})

    @property
    def rate(self):
        return self.learner._updater.optimizer.param_groups[0]["lr"]


@pytest.fixture
def ether():
    return Ether("1:0xswarm")


def announce(player, blob, **fields):
    reference = player.network.put(blob)
    fields = {"round": ROUND, "origin": player.learner.origin, "updates": 1, **fields}
    note = MergeNote(sha256=reference.sha256, size=reference.size, **fields)
    player.network.announce(SLOT, note_bytes(note), 60)


def lengths(learner):
    return {name: float(tensor.norm()) for name, tensor in learner.delta().items()}


def test_peers_end_with_the_same_weights_and_a_higher_rate(ether):
    players = [Player(ether, secret).practise(word, word[-2::-1]) for secret, word in ((1, "sun>"), (2, "tree>"))]
    assert players[0].merge().merged == 0, "nobody else has said anything yet"
    assert (players[0].rate, players[0].merger.steps) == (RATE, 1)
    assert players[1].merge().merged == 1
    assert players[0].merge().merged == 1
    assert players[0].rate == pytest.approx(RATE * 2**0.5)
    assert players[0].merger.steps == 2
    assert players[0].merger.partners == {players[1].merger._peer_id}
    players[0].merger._network = SimulatedNetwork(Ether("1:0xelsewhere"), Identity(b"\x01" * 32))
    assert players[0].merge().merged == 0
    assert (players[0].rate, players[0].merger.steps) == (RATE, 1), "both fall back when the others leave"
    assert not players[0].merger.partners


def test_staleness_is_the_age_of_the_merged_weights(ether):
    words = enumerate(("sun>", "tree>", "moon>"), start=1)
    earlier, same, late = (Player(ether, secret).practise(word) for secret, word in words)
    assert earlier.merger.run(ROUND - 2, b"seed", set, {}).staleness_s is None
    same.merger._publish(ROUND)
    report = late.merge()
    assert report.merged == 2 and report.staleness_s == TINY.timing.tick_s, "the mean of two ticks and none"


def test_merged_weights_are_the_mean_of_two(ether):
    one, two = Player(ether, 1, rule="mean").practise(), Player(ether, 2, rule="mean").practise("moon>", "noom")
    expected = {name: (tensor + two.learner.delta()[name]) / 2 for name, tensor in one.learner.delta().items()}
    announce(two, encode(two.learner.delta()))
    assert one.merge().merged == 1
    for name, tensor in one.learner.delta().items():
        assert torch.allclose(tensor, expected[name], atol=1e-5)


def test_a_merge_that_harms_is_undone(ether, monkeypatch):
    one, two = Player(ether, 1).practise(), Player(ether, 2).practise("moon>", "noom")
    announce(two, encode(two.learner.delta()))
    before = one.learner.delta()
    answers = iter([[True] * 8, [False] * 8])
    monkeypatch.setattr(Trial, "_answers", lambda trial: next(answers))
    report = one.merge()
    assert report.merged == 0 and report.merge_refused == {"held-out fell": 1} and report.merge_gain == -1.0
    assert not one.merger.partners
    for name, tensor in one.learner.delta().items():
        assert torch.allclose(tensor, before[name], atol=1e-7)
    assert one.rate == RATE


def test_own_answers_are_given_while_the_others_get_ready(ether, monkeypatch):
    one, two = Player(ether, 1).practise(), Player(ether, 2).practise("moon>", "noom")
    order = []

    def answers(trial):
        if not order:
            announce(two, encode(two.learner.delta()))  # which one has not looked for yet
        order.append(one.learner.delta())
        return [True]

    monkeypatch.setattr(Trial, "_answers", answers)
    own = one.learner.delta()
    assert one.merge(alike={one.me, two.me}).merged == 1
    assert len(order) == 2, "with the own weights once, with the merged ones once"
    assert all(torch.equal(order[0][name], own[name]) for name in own)
    assert any(not torch.equal(order[1][name], own[name]) for name in own)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"round": 0}, "stale"),
        ({"round": 10_000}, "stale"),
        ({"origin": "0" * 64}, "another model"),
    ],
)
def test_announcements_that_do_not_fit_are_counted(ether, fields, reason):
    one = Player(ether, 1, stale_rounds=0).practise()
    two = Player(ether, 2).practise("moon>", "noom")
    announce(two, encode(two.learner.delta()), **fields)
    report = one.merge()
    assert report.merged == 0 and report.merge_refused == {reason: 1}


def test_garbage_of_every_kind_is_counted_and_changes_nothing(ether):
    one = Player(ether, 1, fetch_peers=4).practise()
    huge = {name: 50 * tensor for name, tensor in one.learner.delta().items()}
    nan = {name: torch.nan * tensor for name, tensor in one.learner.delta().items()}
    for secret, blob in ((2, encode(huge)), (3, encode(nan)), (4, b"garbage")):
        announce(Player(ether, secret), blob)
    liar = SimulatedNetwork(ether, Identity(b"\x05" * 32))
    liar.announce(SLOT, b"{}", 60)
    absent = Player(ether, 6)
    note = MergeNote(round=ROUND, origin=one.learner.origin, updates=1, sha256="1" * 64, size=100)
    absent.network.announce(SLOT, note_bytes(note), 60)
    before = lengths(one.learner)
    report = one.merger.run(ROUND, b"seed", lambda: frozenset(), {})
    assert report.merged == 0 and lengths(one.learner) == before
    assert report.merge_refused == {"garbage": 2, "not finite": 1, "too long": 1, "not delivered": 1}


def test_who_learns_while_the_others_find_nothing_is_merged(ether):
    one = Player(ether, 1, rule="mean").practise()
    one.merge()
    one.practise("moon>", "noom").merge()  # alone so far, and now it knows how far a round takes it
    here = one.learner.delta()
    for secret, factor in ((2, 1 + 2**-7), (3, 1 - 2**-7)):
        announce(Player(ether, secret), encode({name: factor * tensor for name, tensor in here.items()}))
    learning = Player(ether, 4)
    learning.learner.move_to(here)
    announce(learning, encode(learning.practise("moon>", "noom").learner.delta()))
    assert one.merge().merged == 3


def test_being_moved_by_others_is_no_stride(ether):
    one = Player(ether, 1, rule="mean").practise()
    one.merge()
    one.practise("moon>", "noom").merge()
    two = Player(ether, 2)
    shift = {name: 2 * tensor.flip(0) for name, tensor in one.learner.delta().items()}
    moved = {name: tensor + shift[name] for name, tensor in one.learner.delta().items()}
    announce(two, encode(moved))
    assert one.merge().merged == 1, "of two, none is an outlier"
    here = one.learner.delta()
    for player, factor in ((two, 1 + 2**-7), (Player(ether, 3), 1 - 2**-7)):
        announce(player, encode({name: factor * tensor for name, tensor in here.items()}))
    announce(Player(ether, 4), encode({name: tensor + shift[name] / 2 for name, tensor in here.items()}))
    assert one.merge().merge_refused == {"outlier": 1}


def test_two_names_for_the_same_weights_count_once(ether):
    one, two = Player(ether, 1).practise(), Player(ether, 2).practise("moon>", "noom")
    blob = encode(two.learner.delta())
    announce(two, blob)
    announce(Player(ether, 3), blob)
    report = one.merge()
    assert report.merged == 1 and report.merge_refused == {"copied": 1}


def test_of_peers_that_learnt_the_same_in_their_first_round_none_is_an_outlier(ether):
    learned = {1: "sun>", 2: "sun>", 3: "moon>"}
    players = [Player(ether, secret, rule="mean").practise(text, "nom") for secret, text in learned.items()]
    for player in players:
        announce(player, encode(player.learner.delta()))
    one, two, other = (player.merge() for player in players)
    assert [report.merge_refused for report in (one, two, other)] == [{"copied": 1}] * 3
    assert [report.merged for report in (one, two, other)] == [1, 1, 1]
    same, also, third = (player.learner.delta() for player in players)
    for name, tensor in same.items():
        assert torch.allclose(tensor, also[name], atol=1e-5) and torch.allclose(tensor, third[name], atol=1e-5)


def test_nearly_the_same_weights_make_no_outlier_of_a_third_in_the_first_round(ether):
    one = Player(ether, 1, rule="mean").practise("sun>", "nom")
    announce(Player(ether, 2), encode({name: (1 + 2**-7) * tensor for name, tensor in one.learner.delta().items()}))
    announce(Player(ether, 3), encode(Player(ether, 4).practise("moon>", "nom").learner.delta()))
    report = one.merge()
    assert report.merged == 2 and report.merge_refused == {}


def test_a_late_joiner_starts_from_the_merged_model(ether):
    veteran = Player(ether, 1)
    for word in ("sun>", "moon>", "lamp>"):
        veteran.practise(word, word[-2::-1])
    veteran.merge()
    newcomer = Player(ether, 2)
    report = newcomer.merger.catch_up(ROUND)
    assert report.merged == 1
    for name, tensor in newcomer.learner.delta().items():
        assert torch.allclose(tensor, veteran.learner.delta()[name], rtol=2**-7, atol=1e-7)
    assert veteran.merger.catch_up(ROUND) is None, "nobody is ahead of the veteran"


def test_who_never_delivers_is_waited_for_once(ether, monkeypatch):
    clock = Clock(int(time.time()) - ROUND, TINY.timing)  # round 7 begins now
    player, asleep = Player(ether, 1, clock).practise(), Identity(b"\x09" * 32).peer_id
    now = [time.time()]
    monkeypatch.setattr(merging.time, "time", lambda: now[0])
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += max(seconds, 0.01)

    monkeypatch.setattr(merging.time, "sleep", sleep)
    player.merge(alike={asleep, player.me})
    assert sum(slept) > 1 and now[0] <= clock.end(ROUND)
    slept.clear()
    now[0] = clock.start(ROUND)
    player.merge(alike={asleep, player.me})
    assert not slept


def test_who_trains_too_many_weights_says_why_it_merges_with_nobody(ether, monkeypatch):
    assert Player(ether, 1).merger.why_not is None
    monkeypatch.setattr(wire, "MAX_BLOB_BYTES", 1000)
    large = Player(ether, 2)
    assert f"{large.learner.trained_weights:,} weights" in large.merger.why_not and not large.merger.due(1)
    assert Player(ether, 3, rule="none").merger.why_not is None, "nobody asked for it"


def test_paired_answers():
    assert Paired.of_answers([True, False, True], [True, True, True]) == Paired(1, 0, 3)
    assert not Paired(gained=2, lost=4, of=32).falls, "within one standard error"
    assert Paired(gained=0, lost=4, of=32).falls and Paired(3, 9, 32).falls
    assert not Paired(0, 0, 0).falls and Paired(0, 0, 0).gain == 0


def test_help_needs_some_merges_and_narrows():
    assert estimate([0.1] * 4, 32) is None
    still = estimate([0.0] * 5, 8)
    assert still["low"] == -still["high"] == -1 / 40, "no answer changed, which does not prove that none will"
    few, many = estimate([0.0, 0.1, 0.2] * 2, 32), estimate([0.0, 0.1, 0.2] * 10, 32)
    assert few["gain"] == many["gain"] == pytest.approx(0.1)
    assert few["low"] < many["low"] < 0.1 < many["high"] < few["high"] and many["rounds"] == 30


def test_the_rate_of_several_is_reached_step_by_step(ether):
    one, other = Player(ether, 1, learning_rate_rise=0.15), Player(ether, 2)
    rates = []
    for _ in range(4):
        other.practise("cat>", "tac").merge()
        one.practise().merge()
        rates.append(one.rate / RATE)
    assert rates == pytest.approx([1.15, 1.3, 2**0.5, 2**0.5])
    assert one.learner.updates == 4, "of this peer: whoever joins others late has an optimiser that knows nothing yet"


def group(author, task, rewards, prompt=None):
    return Group("answer", author, task, prompt or (task,), (), rewards)


def test_fetched_groups_are_chosen_for_what_they_say():
    mine = [group("me", 0, (1.0, 0.0))]
    known = group("a", 0, (1.0, 0.0), prompt=(0,))
    even, uneven = group("a", 1, (1.0, 1.0, 0.0, 0.0)), group("b", 2, (1.0, 0.0, 0.0, 0.0))
    dull = group("b", 3, (1.0, 1.0))
    dropped = Counter()

    def chosen(limit):
        return choose(TINY, b"seed", "me", mine, [[known, uneven, dull, even]], dropped, limit)[1:]

    assert chosen(1) == [even] and chosen(2) == [even, uneven], "what differs most, on prompts that are new"
    assert chosen(4) == [even, uneven, known]
    assert dropped["all right"] == 3
    crowd = [group("a", task, (1.0, 0.0)) for task in range(10, 20)]
    on_another_scale = Group("critique", "b", 4, (4,), (), (1.0, 0.9, 1.0, -3.0))
    picked = choose(TINY, b"seed", "me", [], [[on_another_scale, even]], dropped, 1)
    assert picked == [even], "critiques are scored from -3 to 1, answers from 0 to 1"
    picked = choose(TINY, b"seed", "me", [], [[*crowd, uneven]], dropped, 4)
    assert Counter(one.author for one in picked) == {"a": 2, "b": 1}, "no author has more than its share"


def test_fetched_groups_are_asked_for_only_while_there_is_room():
    even, known, uneven = (group("a", 1, (1.0, 0.0)), group("b", 0, (1.0, 0.0)), group("c", 2, (1.0, 0.0, 0.0, 0.0)))
    mine, asked = [group("me", 0, (1.0, 0.0))], []

    def batches():
        for batch in ([known, even], [uneven], [group("d", 3, (1.0, 0.0))]):
            asked.append(batch)
            yield batch

    def chosen(limit):
        asked.clear()
        return choose(TINY, b"seed", "me", mine, batches(), Counter(), limit)[1:]

    assert chosen(0) == [] and not asked
    assert chosen(1) == [even] and len(asked) == 1
    assert chosen(2) == [even, known] and len(asked) == 1, "known, but of the earlier batch"
    assert chosen(3) == [even, known, uneven] and len(asked) == 2
    assert len(chosen(9)) == 4 and len(asked) == 3
    dull, crowd = [group("a", 4, (0.0, 0.0)), group("b", 5, (0.0, 0.0))], [group("a", n, (1.0, 0.0)) for n in (6, 7, 8)]
    picked = choose(TINY, b"seed", "me", mine, [dull, crowd], Counter(), 4)[1:]
    assert len(picked) == 2, "no author has more than its share in all batches together"


def test_fetched_groups_keep_to_the_time_that_is_left():
    cap, share = TINY.sharing.external_groups, TINY.sharing.update_share
    assert affordable_groups(TINY, cap, 10, None, 100) == cap
    assert affordable_groups(TINY, cap, 10, 0.1, 100) == cap
    assert affordable_groups(TINY, cap, 10, 1.0, 15 / share) == 5
    assert affordable_groups(TINY, cap, 10, 1.0, -3) == 0
