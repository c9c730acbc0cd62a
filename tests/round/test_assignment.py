"""Who judges whom."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.recipe.load import load_recipe
from swarm.round.assignment import Assigner, affordable, judges_of, sources_of

RECIPE = load_recipe(Path(__file__).parents[2] / "recipes" / "arithmetic.yaml")
rosters = st.integers(0, 12).map(lambda n: {f"peer{i}": 4 for i in range(n)})


@given(st.binary(min_size=32, max_size=32), rosters)
def test_judging_is_spread_evenly_and_never_of_oneself(seed, roster):
    assigned = judges_of(RECIPE, seed, roster)
    load = Counter(judge for judges in assigned.values() for judge in judges)
    assert all(item.author not in judges and len(set(judges)) == len(judges) for item, judges in assigned.items())
    assert all(count <= RECIPE.stages.critique.items for count in load.values())
    if len(roster) > 2:
        assert all(len(judges) == RECIPE.sharing.judges for judges in assigned.values())
        assert len(set(load.values())) == 1
    assert all(item.task < roster[item.author] and item.sample < 8 for item in assigned)


def test_everybody_draws_the_same_and_the_seed_decides():
    roster = {f"peer{i}": 2 for i in range(5)}
    backwards = dict(reversed(roster.items()))
    assert judges_of(RECIPE, b"1" * 32, roster) == judges_of(RECIPE, b"1" * 32, backwards)
    assert judges_of(RECIPE, b"1" * 32, roster) != judges_of(RECIPE, b"2" * 32, roster)


def test_sources_are_capped_and_never_oneself():
    peers = [f"peer{i}" for i in range(30)]
    drawn = sources_of(RECIPE, b"s" * 32, "peer3", peers)
    assert len(drawn) == RECIPE.sharing.fetch_peers == len(set(drawn)) and "peer3" not in drawn
    assert sources_of(RECIPE, b"s" * 32, "peer3", ["peer3"]) == []


@pytest.mark.parametrize(("seconds", "expected"), [(None, 4), (0.0, 4), (10.0, 4), (30.0, 2), (1000.0, 1)])
def test_a_slow_peer_takes_fewer_tasks(seconds, expected):
    assert affordable(4, seconds, window_s=100) == expected


def repeats_and_relatives(owners, *, remember=True):
    """Of all pairs of 30 rounds: those that met in the round before, and those of one owner."""
    roster = {f"peer{i}": 4 for i in range(20)}
    assigner = Assigner(RECIPE, (lambda number, peers: owners), epoch_of=lambda number: 0 if remember else number)
    before, repeats, relatives, total = frozenset(), 0, 0, 0
    for number in range(30):
        drawn = assigner.draw(number, bytes([number]) * 32, roster)
        repeats += len(drawn.pairs & before)
        before, total = drawn.pairs, total + len(drawn.pairs)
        relatives += sum(
            owners.get(judge, judge) == owners.get(item.author, item.author)
            for item, judges in drawn.judges.items()
            for judge in judges
        )
    return repeats / total, relatives


def test_nobody_judges_the_same_author_twice_running():
    assert repeats_and_relatives({})[0] < 0.02
    assert repeats_and_relatives({}, remember=False)[0] > 0.1, "it happens where nobody remembers"


def test_nobody_judges_a_peer_of_the_same_owner():
    owners = {f"peer{i}": "boss" for i in range(8)}
    assert repeats_and_relatives(owners)[1] == 0


def test_whoever_missed_a_round_draws_the_same_when_the_next_epoch_begins():
    roster = {f"peer{i}": 4 for i in range(6)}
    one, other = (Assigner(RECIPE, epoch_of=lambda number: number // 4) for _ in range(2))
    drawn = [one.draw(number, bytes([number]) * 32, roster) for number in range(5)]
    assert drawn[4] == other.draw(4, bytes([4]) * 32, roster)
    resumed = Assigner(RECIPE, epoch_of=lambda number: number // 4)
    resumed.resume(2, drawn[2].pairs)
    assert resumed.draw(3, bytes([3]) * 32, roster) == drawn[3]
