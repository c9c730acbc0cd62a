"""The steps that CUDA records, run as they are: the same tokens and log-probabilities as from plain steps."""

import pytest
import torch

from swarm.recipe.schema import Lora
from swarm.training.decoding import GRAPHS, LOOK_EVERY
from tests.training.training_helpers import experience, prompts


class Recorder:
    """Stands where a CUDA graph is recorded: replaying is running the step again, on the same tensors."""

    def __init__(self, decoder):
        self.batches, self.replays = 0, 0
        decoder.record = self.record

    def record(self, step, place):
        self.batches += 1
        for _ in range(3):  # as recording does: whatever it leaves behind must not be seen afterwards
            step()

        def replay():
            self.replays += 1
            step()

        return replay


def drawn(learner, asked, graphs=False, **options):
    learner._sampler._decoder.graphs = graphs
    return learner._sampler.draw(asked, **{"samples": 6, "rows": 100, "temperature": 1.0, "seed": 3, **options})


def same(found, expected):
    assert [[one.tokens for one in row] for row in found] == [[one.tokens for one in row] for row in expected]
    assert [[one.finished for one in row] for row in found] == [[one.finished for one in row] for row in expected]
    for row, wanted in zip(found, expected, strict=True):
        for one, other in zip(row, wanted, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("lora", [None, Lora(rank=4, alpha=8.0)])
@pytest.mark.parametrize("temperature", [1.0, 0.7, None])
def test_recorded_steps_draw_what_plain_steps_draw_before_and_after_an_update(load, lora, temperature):
    learner = load(lora=lora)
    recorder = Recorder(learner._sampler._decoder)
    options = dict(max_new_tokens=4, temperature=temperature)
    for _ in range(2):
        recorded = drawn(learner, prompts(learner), graphs=True, **options)
        plain = drawn(learner, prompts(learner), **options)
        assert {one.finished for row in plain for one in row} == {True, False}
        same(recorded, plain)
        learner.update(experience(learner))
    assert recorder.batches == 1  # recorded once, and the new weights are seen


def test_a_batch_is_used_again_for_other_prompts_and_lengths(load):
    learner = load()
    recorder = Recorder(learner._sampler._decoder)
    long = [learner.encode(text, chat=False, system="") for text in ("moon=nom:no noom>", "sun>", "tree=eert?>")]
    short = prompts(learner)[:3]
    for asked, limit, seed in ((long, 20, 1), (short, 4, 2), (short, 30, 3), (long, 1, 4)):
        options = dict(max_new_tokens=limit, seed=seed)
        same(drawn(learner, asked, graphs=True, **options), drawn(learner, asked, **options))
    assert recorder.batches == 1


def test_it_stops_soon_after_the_last_row_has_ended(load):
    learner = load()
    recorder = Recorder(learner._sampler._decoder)
    learner._sampler._decoder._ends = torch.arange(learner.vocabulary_size)  # every first token ends its row
    [row] = drawn(learner, prompts(learner)[:1], graphs=True, max_new_tokens=40)
    assert [(len(one.tokens), one.finished) for one in row] == [(1, True)] * 6
    assert recorder.replays == LOOK_EVERY - 1


def test_only_a_few_batches_are_kept(load):
    learner = load()
    decoder = learner._sampler._decoder
    recorder = Recorder(decoder)
    for samples in range(1, GRAPHS + 3):
        drawn(learner, prompts(learner)[:1], graphs=True, samples=samples, max_new_tokens=4)
    assert (recorder.batches, len(decoder._recorded)) == (GRAPHS + 2, GRAPHS)
    drawn(learner, prompts(learner)[:1], graphs=True, samples=GRAPHS + 2, max_new_tokens=4)
    assert recorder.batches == GRAPHS + 2


def test_where_recording_fails_it_goes_on_with_plain_steps_and_says_so(load, caplog):
    learner = load()
    decoder = learner._sampler._decoder
    expected = drawn(learner, prompts(learner), max_new_tokens=6)

    def fails(step, place):
        raise RuntimeError("operation not permitted when stream is capturing")

    decoder.record = fails
    same(drawn(learner, prompts(learner), graphs=True, max_new_tokens=6), expected)
    assert "not permitted" in caplog.text
    assert not decoder.graphs


def test_memory_that_runs_out_while_recording_makes_smaller_batches(load):
    learner = load()
    decoder = learner._sampler._decoder
    expected = drawn(learner, prompts(learner), max_new_tokens=6)
    rows = []

    def small_machine(step, place):
        rows.append(len(step.__self__.over))
        if rows[-1] > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step

    decoder.record = small_machine
    same(drawn(learner, prompts(learner), graphs=True, max_new_tokens=6), expected)
    assert rows[:3] == [48, 24, 12]
    assert decoder.graphs
