"""Jury, calibration, scores and points: the arithmetic of peer judging."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.judging.calibration import MIN_AUDITS, UNPROVEN, calibrate
from swarm.judging.jury import Vote, decide
from swarm.judging.points import group_points, in_millionths, round_points
from swarm.judging.scores import advantages, critique_form, is_informative, proper_score

probabilities = st.floats(0, 1)
votes = st.lists(st.builds(Vote, probability=probabilities, weight=probabilities), max_size=8)


def test_proper_score_pays_honesty():
    belief = 0.7
    expected = {
        p / 100: belief * proper_score(p / 100, 1) + (1 - belief) * proper_score(p / 100, 0) for p in range(101)
    }
    assert max(expected, key=expected.__getitem__) == belief
    assert proper_score(0.5, 1) == proper_score(0.5, 0) == 0


@given(votes, st.randoms())
def test_jury_ignores_order_and_weightless_judges(members, generator):
    shuffled = list(members)
    generator.shuffle(shuffled)
    with_stranger = [*shuffled, Vote(1.0, 0.0)]
    assert decide(members) == decide(with_stranger)


@given(votes)
def test_jury_is_a_probability_or_silent(members):
    verdict = decide(members)
    if verdict.probability is None:
        assert verdict.weight == 0
    else:
        assert 0 <= verdict.probability <= 1


def test_jury_follows_the_proven_judge():
    assert decide([Vote(0.9, 0.8), Vote(0.1, 0.1)]).probability > 0.7
    assert decide([Vote(0.9, 0.1), Vote(0.1, 0.8)]).probability < 0.3


def audits_of(judge, count, seed=0):
    generator = random.Random(seed)
    truths = [generator.random() < 0.5 for _ in range(count)]
    return [(judge(truth, generator), truth) for truth in truths]


def test_an_informative_judge_is_proven():
    good = calibrate(audits_of(lambda truth, g: (2.0 if truth else -2.0) + g.gauss(0, 1), 100))
    assert good.informedness > 0.8 and good.weight > 0.6
    assert good.probability(3.0) > 0.9 > 0.1 > good.probability(-3.0)


def test_scale_and_offset_of_a_judge_do_not_matter():
    shifted = calibrate(audits_of(lambda truth, g: -8 + 0.3 * ((2.0 if truth else -2.0) + g.gauss(0, 1)), 200))
    assert shifted.weight > 0.5


@pytest.mark.parametrize(
    "judge",
    [
        lambda truth, g: 5.0,
        lambda truth, g: g.gauss(0, 3),
        lambda truth, g: -3.0 if truth else 3.0,
    ],
    ids=["always yes", "random", "inverted"],
)
def test_a_judge_that_says_nothing_weighs_nothing(judge):
    weights = [calibrate(audits_of(judge, 100, seed)).weight for seed in range(20)]
    assert sum(weights) / len(weights) < 0.05


def test_a_new_judge_weighs_nothing():
    perfect = [(5.0, True), (-5.0, False)] * (MIN_AUDITS // 2 - 1)
    assert calibrate(perfect).weight == 0 == UNPROVEN.weight
    assert calibrate([]) == UNPROVEN


@given(st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.booleans()), max_size=40))
def test_calibration_is_finite_and_monotone(audits):
    fitted = calibrate(audits)
    assert all(map(math.isfinite, (fitted.slope, fitted.intercept, fitted.informedness, fitted.lower)))
    assert fitted.slope >= 0
    assert 0 <= fitted.probability(-5) <= fitted.probability(5) <= 1


def test_advantages_are_centred_and_scaled():
    values = advantages([0, 0, 1, 1], scale=True)
    assert values == pytest.approx([-0.866, -0.866, 0.866, 0.866], abs=1e-3)
    assert advantages([0, 0, 1, 1], scale=False) == [-0.5, -0.5, 0.5, 0.5]


def test_groups_without_spread_teach_nothing():
    assert advantages([0.3, 0.3, 0.3], scale=True) == [0, 0, 0]
    assert not is_informative([1.0]) and not is_informative([0.0, math.nan]) and is_informative([0.0, 1.0])


def test_critique_form():
    assert critique_form("It is 7.", True) > critique_form("It is 7", False) > critique_form(' "', True) == 0


def test_points_count_groups_and_verdicts():
    assert group_points([[1, 0], [1, 1], [0, 0], []]) == 1.5
    assert round_points([in_millionths(1.5), in_millionths(1 / 3)]) == 1_833_333
    assert round_points([in_millionths(0.5), in_millionths(-3.0)]) == 0
