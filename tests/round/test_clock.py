"""When the next round starts, and that peers with the same view agree on it."""

from hypothesis import given
from hypothesis import strategies as st

from swarm.recipe.schema import Timing
from swarm.round.clock import Clock, larger_crowd, next_round

CLOCK = Clock(genesis=1000, timing=Timing(round_s=100, tick_s=2))


def ask(me="a", current=10, *, expected=("a", "b", "c"), finished=None, playing=None, now):
    return next_round(
        CLOCK, current, me=me, expected=set(expected), finished=finished or {}, playing=playing or {}, now=now
    )


def test_a_number_says_when():
    assert CLOCK.start(10) == 1020 and CLOCK.end(10) == 1120
    assert CLOCK.due(10, "answer") == 1065
    assert CLOCK.first_after(1020) == 10 and CLOCK.first_after(1020.1) == 11 and CLOCK.first_after(0) == 0


def test_waits_for_those_who_play():
    assert ask(finished={"a": 1030, "b": 1031}, now=1032) is None


def test_starts_early_when_all_have_finished():
    finished = {"a": 1030, "b": 1031, "c": 1033.5}
    assert ask(finished=finished, now=1034) == CLOCK.first_after(1034.5) == 18


@given(st.dictionaries(st.sampled_from("abc"), st.floats(1020, 1100), min_size=3))
def test_peers_with_the_same_view_agree(finished):
    now = max(finished.values()) + 0.5
    assert len({ask(me, finished=finished, now=now) for me in "abc"}) == 1


def test_alone_it_goes_on_at_once():
    assert ask(expected=("a",), finished={"a": 1030.5}, now=1030.6) == CLOCK.first_after(1030.5)


def test_goes_on_at_the_deadline_without_the_missing():
    assert ask(finished={"a": 1030, "b": 1031}, now=1121) == CLOCK.first_after(1120)
    assert ask(me="b", finished={"a": 1030, "b": 1031}, now=1125) == CLOCK.first_after(1120)


def test_never_starts_in_the_deep_past():
    number = ask(finished={"a": 1030, "b": 1031}, now=9000)
    assert CLOCK.end(number) >= 9000


def test_follows_the_majority_that_is_ahead():
    assert ask(finished={"a": 1130}, playing={"b": 58, "c": 58}, now=1130) == 58
    assert ask(finished={"a": 1030}, playing={"b": 58, "c": 10}, now=1100) is None


def test_one_liar_cannot_lead_it_away():
    assert (
        ask(expected=("a", "b", "c", "d"), finished={"a": 1030}, playing={"b": 15, "c": 10, "d": 10}, now=1031) is None
    )
    assert ask(finished={"a": 1030}, playing={"b": 10**9, "c": 10**9}, now=1031) is None


def test_a_finish_in_the_future_counts_as_now():
    assert ask(finished={"a": 1030, "b": 1031, "c": 99999}, now=1032) == CLOCK.first_after(1033)


def test_rounds_that_cannot_be_are_known():
    assert CLOCK.plausible(10, 1021) and CLOCK.plausible(10, 1019)
    assert not CLOCK.plausible(2**52, 1021) and not CLOCK.plausible(10, 9000)


def test_the_larger_crowd_is_followed_and_only_forward():
    def crowd(others, *strangers):
        return larger_crowd(CLOCK, 10, others=others, strangers=strangers, now=1040)

    assert crowd(0) is None
    assert crowd(0, 15) == 15, "alone it follows anybody who began later"
    assert crowd(0, 9, 10) is None, "of two alone one goes on, or they would wait for each other"
    assert crowd(1, 15) is None and crowd(1, 15, 15) == 15, "of two parts as large the other one is larger by this peer"
    assert crowd(2, 15, 15, 16) is None, "those who play different rounds are no crowd"
    assert crowd(0, 2**40) is None, "a round that cannot be"
