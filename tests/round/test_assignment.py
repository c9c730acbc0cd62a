"""Who judges whom."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.recipe.load import load_recipe
from swarm.round.assignment import affordable, judges_of, sources_of

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
