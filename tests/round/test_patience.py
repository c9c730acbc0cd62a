"""Who keeps others waiting is waited for less and less, and forgiven at once."""

from swarm.round.patience import Patience


def test_each_miss_doubles_the_pause():
    patience = Patience()
    tries = []
    for ordinal in range(1, 40):
        waiting = bool(patience.worth_it({"slow"}, ordinal))
        tries += [ordinal] if waiting else []
        patience.note(ordinal, good={"quick"}, bad={"slow"} if waiting else set())
    assert tries == [1, 3, 6, 11, 20, 37]


def test_publishing_in_time_forgives():
    patience = Patience()
    patience.note(1, good=set(), bad={"slow"})
    assert patience.worth_it({"slow", "quick"}, 2) == {"quick"}
    patience.note(2, good={"slow"}, bad=set())
    assert patience.worth_it({"slow"}, 3) == {"slow"}
    patience.note(3, good=set(), bad={"slow"})
    assert patience.worth_it({"slow"}, 5) == {"slow"}
