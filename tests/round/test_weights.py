"""Peers that have learned apart publish the weights that they sample with, and replay each other under them."""

import pytest
import torch

from swarm.network.blobs import BlobRef
from swarm.round.records import decode
from swarm.round.weights import SLOT
from swarm.training.learner import Learner
from swarm.training.wire import WeightsRefused, encode
from swarm.training.wire import decode as decode_weights
from tests.round.conftest import SEED, make_bench

PUBLIC = {"publish_weights": True}


def learn_apart(bench):
    """Give every peer weights of its own."""
    for number, learner in enumerate(bench.learners.values()):
        noise = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for weight in learner._loaded.trainable.values():
                weight.add_(0.05 * torch.randn(weight.shape, generator=noise))
        learner._fingerprint = None


@pytest.fixture
def bench():
    made = make_bench(2, audits=PUBLIC)
    learn_apart(made)
    return made


def levels(outcome):
    return {row.peer_id: decode("answer", row.body).level for row in outcome.records if row.stage == "answer"}


def test_honest_peers_with_weights_of_their_own_are_replayed(bench, caplog):
    before = {me: learner.fingerprint for me, learner in bench.learners.items()}
    assert len(set(before.values())) == 2
    caplog.set_level("INFO", "swarm.round.weights")
    for _ in range(2):
        for outcome in bench.play().values():
            assert set(levels(outcome).values()) == {"replicate"}
            assert not outcome.report.refused and outcome.report.partners == 1
        learn_apart(bench)  # and so they publish anew
    assert sum("all holds" in line for line in caplog.messages) == 4


def test_draws_that_nobody_can_repeat_are_checked_by_their_log_probabilities(bench, monkeypatch):
    """As of a peer that samples with vLLM: right weights, tokens to which the public noise does not point."""
    me, learner = next(iter(bench.learners.items()))
    generate = learner.generate
    monkeypatch.setattr(learner, "generate", lambda *args, seed: generate(*args, seed=seed + 1))
    monkeypatch.setattr(learner._sampler, "replicable", False, raising=False)
    for outcome in bench.play().values():
        assert levels(outcome).pop(me) == "audit"
        assert not outcome.report.refused and outcome.report.partners == 1


def swap_after_publishing(bench, cheat, monkeypatch):
    """The cheat names the weights that it publishes and samples with others, such as those of a better model."""
    learner, generate = bench.learners[cheat], bench.learners[cheat].generate

    def generate_with_others(*args, **kwargs):
        own = learner._loaded.copy_weights()
        learner._loaded.set_weights({name: weight + 0.3 for name, weight in own.items()})
        try:
            return generate(*args, **kwargs)
        finally:
            learner._loaded.set_weights(own)

    monkeypatch.setattr(learner, "generate", generate_with_others)


def test_a_swapped_model_shows(bench, monkeypatch):
    honest, cheat = bench.learners
    swap_after_publishing(bench, cheat, monkeypatch)
    outcomes = bench.play()
    assert outcomes[honest].report.refused == {"not replayed": 1} and outcomes[honest].report.partners == 0
    assert not outcomes[cheat].report.refused


def test_weights_other_than_the_named_ones_show(bench, monkeypatch):
    honest, cheat = bench.learners
    others = encode({name: weight + 0.3 for name, weight in bench.learners[cheat]._loaded.trainable.items()})
    monkeypatch.setattr(bench.learners[cheat], "weights", lambda: others)
    assert bench.play()[honest].report.refused == {"not replayed": 1}


@pytest.mark.parametrize("blob", [b"", b"garbage", encode({"lora": torch.zeros(3)})])
def test_a_blob_that_holds_no_weights_is_said(bench, monkeypatch, blob):
    honest, cheat = bench.learners
    monkeypatch.setattr(bench.learners[cheat], "weights", lambda: blob or b"\0")
    assert bench.play()[honest].report.refused == {"not replayed": 1}


def test_weights_come_after_the_answers_are_committed(bench, monkeypatch):
    """With weights and seed anybody could compute an author's answers, and commit to them first."""
    committed = []
    for me, driver in bench.drivers.items():
        publish, exchange = driver._weights.publish, driver._exchange

        def look(me=me, publish=publish, exchange=exchange):
            committed.append(me in exchange.announced(0, "answer"))
            publish()

        monkeypatch.setattr(driver._weights, "publish", look)
    bench.play()
    assert committed == [True, True]


def test_weights_that_nobody_delivers_prove_nothing(bench, monkeypatch):
    honest, silent = bench.learners
    monkeypatch.setattr(bench.drivers[silent]._weights, "publish", lambda: None)
    outcome = bench.play()[honest]
    assert not outcome.report.refused and outcome.report.partners == 1
    assert silent not in bench.networks[honest].read(SLOT)


def test_what_is_larger_than_any_weights_is_not_fetched(bench, monkeypatch):
    honest, greedy = bench.learners
    large = bytes(bench.learners[greedy].max_weights_bytes + 1)
    monkeypatch.setattr(bench.learners[greedy], "weights", lambda: large)
    outcome = bench.play()[honest]
    assert not outcome.report.refused and outcome.report.partners == 1
    assert bench.networks[greedy].get(BlobRef.of(large)) is not None, "it was offered"
    assert bench.networks[honest].get(BlobRef.of(large)) is None


def test_each_author_is_drawn_by_somebody_sometime(bench):
    exchange = next(iter(bench.drivers.values()))._weights
    assert {exchange.drawn(bytes([number]) * 32, {"a", "b", "c"}) for number in range(32)} == {"a", "b", "c"}
    assert exchange.drawn(SEED, {}) is None


def test_a_learner_has_its_own_weights_again_whatever_happens_between(bench):
    one, other = bench.learners.values()
    kept, blob = one.fingerprint, other.weights()
    with one.with_weights(blob):
        assert one.fingerprint == other.fingerprint
    assert one.fingerprint == kept
    with pytest.raises(KeyError), one.with_weights(blob):
        raise KeyError
    one._fingerprint = None  # computed from the weights themselves
    assert one.fingerprint == kept
    with pytest.raises(WeightsRefused), one.with_weights(blob[:-1]):
        raise AssertionError("the block must not run")


def test_exact_weights_survive_the_wire_and_other_types_are_refused(bench):
    learner: Learner = next(iter(bench.learners.values()))
    like = learner._loaded.trainable
    found = decode_weights(learner.weights(), like)
    assert all(torch.equal(found[name], weight) for name, weight in like.items())
    with pytest.raises(WeightsRefused, match="type"):
        decode_weights(encode(like, torch.bfloat16), like)
    with pytest.raises(WeightsRefused, match="above 1e-05"):
        decode_weights(learner.weights(), like, largest=1e-5)
