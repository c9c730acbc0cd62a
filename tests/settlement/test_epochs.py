"""When epochs are counted, and who proposes."""

from hypothesis import given
from hypothesis import strategies as st

from swarm.recipe.schema import Timing
from swarm.round.clock import Clock
from swarm.settlement.epochs import MAX_TERM_S, MIN_TERM_S, Epochs, proposers

timings = st.builds(
    lambda tick, factor: Timing(round_s=tick * factor, tick_s=tick), st.integers(1, 30), st.integers(2, 200)
)


@given(timings, st.integers(1, 50), st.integers(0, 2**31), st.integers(0, 200))
def test_every_round_belongs_to_one_epoch_and_is_over_when_it_is_counted(timing, rounds, genesis, epoch):
    epochs = Epochs(Clock(genesis, timing), rounds * timing.round_s)
    numbers = epochs.rounds(epoch, epoch)
    assert numbers.stop == epochs.rounds(epoch + 1, epoch + 1).start and len(numbers) > 0
    first, last = epochs.clock.start(numbers.start), epochs.clock.start(numbers.stop - 1)
    assert epochs.end(epoch - 1) <= first <= last < epochs.end(epoch)
    assert epochs.clock.end(numbers.stop - 1) <= epochs.counted_from(epoch)


@given(timings, st.integers(1, 50), st.integers(0, 200), st.floats(0, 1e6))
def test_turns_come_one_after_the_other(timing, rounds, epoch, later):
    epochs = Epochs(Clock(0, timing), rounds * timing.round_s)
    assert MIN_TERM_S <= epochs.term_s <= MAX_TERM_S
    start = epochs.proposed_from(epoch)
    assert epochs.turn(epoch, epochs.counted_from(epoch)) == -1
    assert epochs.turn(epoch, start + later) in (int(later // epochs.term_s), int(later // epochs.term_s) - 1)
    moment = epochs.counted_from(epoch) + 0.5
    assert epochs.due(moment) == epoch and epochs.due(epochs.given_up(epoch) + 0.5) == epoch + 1


def test_the_seed_draws_the_order():
    peers = [f"peer{n}" for n in range(8)]
    assert proposers(b"a", peers) == proposers(b"a", list(reversed(peers)))
    assert sorted(proposers(b"a", peers)) == peers
    assert len({proposers(bytes([n]), peers)[0] for n in range(60)}) > 4
