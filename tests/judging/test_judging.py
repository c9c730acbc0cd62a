"""Jury, calibration, scores and points: the arithmetic of peer judging."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.judging.calibration import MIN_AUDITS, UNPROVEN, calibrate, pooled
from swarm.judging.canaries import MAX_CHARS, canary
from swarm.judging.jury import Vote, decide, vote_of
from swarm.judging.points import group_points, in_millionths, judge_points, round_points
from swarm.judging.scores import advantages, critique_form, evenness, is_informative, proper_score

probabilities = st.floats(0, 1)
votes = st.lists(
    st.builds(
        Vote,
        probability=probabilities,
        weight=probabilities,
        prior=st.floats(-5, 5),
        owner=st.none() | st.sampled_from("ab"),
    ),
    max_size=8,
)
raw_scores = st.floats(-50, 50)
histories = st.lists(st.tuples(raw_scores, st.booleans()), max_size=60)


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
    verdict, other = decide(members), decide(with_stranger)
    assert other.weight == pytest.approx(verdict.weight)
    assert other.probability == pytest.approx(verdict.probability)


@given(votes)
def test_jury_is_a_probability_or_silent(members):
    verdict = decide(members)
    if verdict.probability is None:
        assert verdict.weight == 0
    else:
        assert 0 <= verdict.probability <= 1


@given(votes, histories, raw_scores)
def test_a_worthless_judge_changes_nothing(members, history, constant):
    """One that always says the same has no weight, whatever the truths were."""
    worthless = calibrate([(constant, truth) for _, truth in history])
    assert worthless.weight == worthless.trust == judge_points(worthless.worth, 100) == 0
    assert decide([*members, vote_of(worthless, constant)]) == decide(members)


@given(votes, st.floats(0.5, 1), probabilities)
def test_no_more_evidence_for_an_answer_lowers_its_reward(members, surer, weight):
    before = decide([*members, Vote(0.5, weight)]).probability
    after = decide([*members, Vote(surer, weight)]).probability
    assert before is None or after >= before - 1e-12


def test_votes_of_one_owner_count_once():
    alone = decide([Vote(0.9, 0.8, owner="a"), Vote(0.2, 0.8, owner="b")])
    crowd = decide([*[Vote(0.9, 0.8, owner="a")] * 5, Vote(0.2, 0.8, owner="b")])
    assert crowd.probability == pytest.approx(alone.probability) and crowd.weight == pytest.approx(alone.weight)
    assert decide([*[Vote(0.9, 0.8)] * 5, Vote(0.2, 0.8)]).probability > alone.probability


def test_agreeing_judges_do_not_count_the_base_rate_again():
    prior = math.log(0.2 / 0.8)
    nothing_new = Vote(0.2, 1.0, prior)
    assert decide([nothing_new] * 3).probability == pytest.approx(0.2)


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
    found = [calibrate(audits_of(judge, 100, seed)) for seed in range(100)]
    assert statistics.fmean(one.weight for one in found) < 0.02
    assert statistics.fmean(one.worth for one in found) < 0.02, "luck pays next to nothing"


def test_rarely_right_answers_do_not_hide_a_good_judge():
    generator = random.Random(0)
    truths = [generator.random() < 0.1 for _ in range(300)]
    found = calibrate([(generator.gauss(2 if truth else 0, 1), truth) for truth in truths])
    assert found.informedness > 0.5 and found.weight > 0.3


def test_a_sleeper_loses_its_weight_because_audits_fade():
    good = audits_of(lambda truth, g: (2.0 if truth else -2.0) + g.gauss(0, 1), 250)
    bad = audits_of(lambda truth, g: -8.0 if truth else 8.0, 60, seed=1)
    assert calibrate(good).weight > 0.7
    assert calibrate(good + bad).weight == 0 > calibrate(good + bad).lower
    assert calibrate(good + bad, half_life=1e9).lower > 0.3


def test_a_judge_that_turns_is_noticed_before_its_past_has_faded():
    good = audits_of(lambda truth, g: (2.0 if truth else -2.0) + g.gauss(0, 1), 250)
    bad = audits_of(lambda truth, g: -8.0 if truth else 8.0, 20, seed=1)
    turned = calibrate(good + bad)
    assert turned.lower > 0.3 and turned.weight < 0.2 and turned.worth < 0.2
    honest = [calibrate(audits_of(lambda truth, g: (1 if truth else -1) + g.gauss(0, 1), 100, s)) for s in range(40)]
    assert sum(one.weight == one.lower for one in honest) > 35, "who stays as it was loses nothing"


def test_nobody_is_surer_than_its_audits_show():
    perfect = calibrate([(1.0, True), (-1.0, False)] * 20)
    assert perfect.weight > 0.5
    effective = perfect.right.effective + perfect.wrong.effective
    assert effective < 40
    for raw, side in ((20.0, 1), (-20.0, -1)):
        assert perfect.log_odds(raw) == pytest.approx(perfect.prior + side * math.log1p(effective))


def test_judges_of_one_owner_are_weighed_together():
    good = calibrate(audits_of(lambda truth, g: 3.0 if truth else -3.0, 100))
    lazy = [calibrate(audits_of(lambda truth, g: 1.0, 100, seed)) for seed in range(1, 4)]
    shared = pooled(good, lazy)
    assert shared.slope == good.slope and shared.audits == 400
    assert pooled(good, []) == good
    assert 0.2 < shared.informedness < 0.3
    everyone = [shared, *(pooled(one, [good, *(other for other in lazy if other is not one)]) for one in lazy)]
    split = sum(judge_points(one.worth, 10) for one in everyone)
    # four identities earn no more than one that does the work of one
    assert split <= judge_points(good.worth, 10) + 1e-9


@given(st.lists(histories, min_size=2, max_size=4), st.randoms())
def test_pooling_ignores_order(several, generator):
    own, *siblings = map(calibrate, several)
    shuffled = list(siblings)
    generator.shuffle(shuffled)
    assert pooled(own, siblings) == pooled(own, shuffled)


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
    assert 0 <= fitted.weight <= 1 and 0 <= fitted.trust <= 1 and 0 <= fitted.worth <= 1
    assert math.isfinite(judge_points(fitted.worth, 1000))


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


def test_judge_points_are_linear_in_work():
    assert judge_points(0.5, 8) == 2 * judge_points(0.5, 4) == 4
    assert judge_points(-0.2, 8) == 0


@given(st.text(min_size=1, max_size=300) | st.integers().map(str), st.integers(0, 10**6))
def test_canaries_are_short_and_say_what_they_are(answer, number):
    made = canary(answer, number)
    assert len(made.text) <= MAX_CHARS
    if len(answer) < 40:
        assert made.right == (made.kind == "short_right") == (made.text == answer)


def test_canaries_hold_one_number():
    """So that every extraction finds it."""
    for number in range(60):
        made = canary("7", number)
        found = [word.strip(".:") for word in made.text.split() if word.strip(".:").lstrip("-").isdigit()]
        assert len(found) == 1 and (found == ["7"]) == made.right
    assert {canary("7", number).kind for number in range(60)} == {"fluent_wrong", "short_right", "injector"}


def test_evenness_knows_no_scale():
    assert evenness([1, 0, 1, 0]) == 1 and evenness([1, 1]) == 0
    assert evenness([1, 0, 0, 0]) == pytest.approx(0.75) == evenness([-3, 1, 1, 1])
    assert evenness([1, 0.9, 1, -3]) < evenness([1, 0, 1, 1, 0, 1])
