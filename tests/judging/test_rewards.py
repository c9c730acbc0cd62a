"""What verdicts can and cannot do to rewards, on the records of a round."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm import PROTOCOL
from swarm.identity.key import Identity
from swarm.judging.calibration import UNPROVEN, calibrate
from swarm.round.evidence import Book, Evidence
from swarm.round.records import AnswerGroup, AnswerRecord, CritiqueGroup, CritiqueRecord, Rollout
from swarm.simulate.judging import SWARM, default_recipe

RECIPE = default_recipe(0)
AUTHOR, GOOD, OTHER, WORTHLESS = (Identity(bytes([number]) * 32).peer_id for number in range(1, 5))
PROVEN = calibrate([(3.0, True), (-3.0, False), (1.0, True), (-1.0, False)] * 20)
CALIBRATIONS = {AUTHOR: PROVEN, GOOD: PROVEN, OTHER: PROVEN, WORTHLESS: UNPROVEN}
ANSWERS = ("12", "30", "40", "51")
verdicts = st.tuples(*[st.floats(-50, 50)] * len(ANSWERS))


def header(peer_id):
    digest = "0" * 64
    common = {"protocol": PROTOCOL, "swarm": SWARM, "round": 0, "peer_id": peer_id, "salt": "0" * 32}
    return {**common, "model": "scripted", "fingerprint": digest, "tokenizer": digest}


def rollout(text):
    return Rollout(tokens=tuple(text.encode()), logprobs=(-0.1,) * len(text), finished=True, text=text)


def critique(judge, raw):
    group = CritiqueGroup(author=AUTHOR, task=0, sample=0, verdicts=raw, rollouts=(rollout("so"),))
    return CritiqueRecord(**header(judge), groups=(group,))


def rewards_of(said):
    """Rewards of the author's answers, and what everybody earns, from verdicts by judge."""
    book = Book()
    book.add(AnswerRecord(**header(AUTHOR), groups=(AnswerGroup(task=0, rollouts=tuple(map(rollout, ANSWERS))),)))
    for judge, raw in said.items():
        book.add(critique(judge, raw))
    evidence = Evidence(RECIPE, b"seed", book, CALIBRATIONS.__getitem__)
    record = book.answers[AUTHOR]
    rewards = evidence.answer_rewards(record, record.groups[0])
    return rewards, {(one.stage, one.peer_id): evidence.earned(one) for one in book.records()}


@settings(max_examples=40)
@given(verdicts, verdicts, verdicts, verdicts)
def test_no_verdict_raises_the_reward_of_its_author(good, other, one, another):
    """Neither that of its answers nor what it earns as a judge in this round."""
    rewards, earned = rewards_of({GOOD: good, OTHER: other, AUTHOR: one})
    assert (rewards, earned) == rewards_of({GOOD: good, OTHER: other, AUTHOR: another})
    assert rewards == rewards_of({GOOD: good, OTHER: other})[0]
    assert rewards_of({GOOD: one, OTHER: other})[1]["critique", GOOD] == earned["critique", GOOD]


@settings(max_examples=40)
@given(verdicts, verdicts, verdicts)
def test_order_and_worthless_judges_do_not_matter_and_all_is_finite(good, other, noise):
    rewards, earned = rewards_of({GOOD: good, OTHER: other})
    turned, _ = rewards_of({OTHER: other, WORTHLESS: noise, GOOD: good})
    assert all(math.isclose(one, two, abs_tol=1e-12) for one, two in zip(rewards, turned, strict=True))
    assert all(0 <= reward <= 1 for reward in rewards)
    assert all(isinstance(value, int) for value in earned.values())


def test_without_a_proven_judge_there_is_no_reward():
    rewards, earned = rewards_of({WORTHLESS: (9.0, 9.0, 9.0, 9.0)})
    assert rewards == [None] * len(ANSWERS) and set(earned.values()) == {0}
