"""Experience of peers that train another model: by their texts, as if the present policy had written them."""

from dataclasses import replace

import pytest

from swarm.judging.calibration import calibrate
from swarm.round.evidence import Book
from swarm.round.experience import Reader, training_group
from swarm.round.records import decode
from tests.round.conftest import SEED, make_bench

OTHER = "0" * 64


@pytest.fixture(scope="module")
def played():
    """A learner, and the answers that another peer gave in a round."""
    bench = make_bench(2)
    me, author = bench.learners
    row = next(r for r in bench.play()[author].records if (r.stage, r.peer_id) == ("answer", author))
    return bench, bench.learners[me], decode("answer", row.body)


def groups(played, record, **sharing):
    bench, learner, _ = played
    recipe = bench.recipe.model_copy(update={"sharing": bench.recipe.sharing.model_copy(update=sharing)})
    book = Book()
    book.add(record)
    reader = Reader(learner, recipe, SEED, book, lambda judge: calibrate([]))
    return reader.groups(record), reader.dropped


def with_texts(record, text):
    """The first answer of the first group says something else."""
    first, *others = record.groups[0].rollouts
    group = record.groups[0].model_copy(update={"rollouts": (first.model_copy(update={"text": text}), *others)})
    return record.model_copy(update={"groups": (group, *record.groups[1:])})


def test_the_same_model_keeps_its_log_probabilities(played):
    found, dropped = groups(played, played[2])
    assert not dropped and not any(group.rescored for group in found)
    assert found[0].rollouts == played[2].groups[0].rollouts


def test_another_tokenizer_is_read_by_its_texts(played):
    _, learner, record = played
    found, dropped = groups(played, record.model_copy(update={"tokenizer": OTHER, "model": "another"}))
    assert not dropped and all(group.rescored for group in found) and len(found) == len(record.groups)
    for group, theirs in zip(found, record.groups, strict=True):
        for mine, rollout in zip(group.rollouts, theirs.rollouts, strict=True):
            assert learner.decode(mine.tokens) == rollout.text and set(mine.logprobs) == {0.0}
            assert (mine.tokens[-1] in learner._loaded.end_ids) == rollout.finished


def test_another_model_with_the_same_tokens_is_read_by_its_tokens(played):
    """Its rewards are those of the tokens, so a text that says something else teaches nothing."""
    record = with_texts(played[2].model_copy(update={"model": "another"}), "what it never sampled")
    found, _ = groups(played, record)
    assert all(group.rescored for group in found)
    assert found[0].rollouts[0].tokens == record.groups[0].rollouts[0].tokens


def test_a_recipe_can_leave_them_out(played):
    record = played[2].model_copy(update={"model": "another"})
    found, dropped = groups(played, record, other_models="drop")
    assert not found and dropped == {"another model": len(record.groups)}


def test_what_is_too_long_in_the_own_tokens_is_left_out(played):
    found, dropped = groups(played, with_texts(played[2].model_copy(update={"tokenizer": OTHER}), "long " * 200))
    theirs = played[2].groups[0].rollouts
    assert not dropped and len(found[0].rollouts) == len(found[0].rewards) == len(theirs) - 1
    assert [rollout.text for rollout in found[0].rollouts] == [rollout.text for rollout in theirs[1:]]


def test_a_group_of_which_one_rollout_fits_teaches_nothing(played):
    record = played[2].model_copy(update={"tokenizer": OTHER})
    long = [rollout.model_copy(update={"text": "long " * 200}) for rollout in record.groups[0].rollouts[1:]]
    group = record.groups[0].model_copy(update={"rollouts": (record.groups[0].rollouts[0], *long)})
    found, dropped = groups(played, record.model_copy(update={"groups": (group, *record.groups[1:])}))
    assert len(found) == len(record.groups) - 1 and dropped == {"too long in these tokens": 1}


def test_of_fetched_groups_only_the_winners_teach_unless_the_recipe_wants_all(played):
    bench, _, record = played
    found, _ = groups(played, record)
    group = replace(found[0], rewards=(1.0, *[0.0] * (len(found[0].rollouts) - 1)))
    fetched, own = training_group(bench.recipe, group, "me"), training_group(bench.recipe, group, group.author)
    assert fetched.rescored and fetched.advantages[0] > 0 and set(fetched.advantages[1:]) == {0.0}
    assert own.own and not own.rescored and own.advantages[0] == fetched.advantages[0] and max(own.advantages[1:]) < 0
    sharing = bench.recipe.sharing.model_copy(update={"learn_from": "all"})
    whole = training_group(bench.recipe.model_copy(update={"sharing": sharing}), group, "me")
    assert whole == replace(own, own=False)


def test_the_policy_learns_from_them_whatever_their_author_said_of_probabilities(played):
    """Old log-probabilities of zero would clip all that is not certain; taken for the policy's own nothing is."""
    bench, learner, record = played
    found, _ = groups(played, record.model_copy(update={"tokenizer": OTHER}))
    useful = [group for group in found if len(set(group.rewards)) > 1]
    report = learner.update([training_group(bench.recipe, group, "me") for group in useful])
    assert report.skipped is None and report.rows > 0
    assert report.clipped_fraction == 0 and report.mean_ratio_drift == pytest.approx(0, abs=1e-6)
