"""One generation under several names is paid once."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from swarm.judging.copying import MIN_SURPRISE, Work, copies

FIRST = Work("a", "alice", b"same", MIN_SURPRISE, 1.0)
COPY = Work("b", "bob", b"same", 0.1, 2.0)


def test_the_later_one_is_the_copy_whatever_it_claims():
    assert copies([COPY, FIRST]) == {"b"}
    assert copies([FIRST, replace(COPY, committed=1.0)]) == {"b"}, "at the same moment the lower id is first"
    assert copies([replace(FIRST, committed=3.0), COPY]) == {"a"}


def test_what_may_be_chance_or_ones_own_is_no_copy():
    assert copies([replace(FIRST, surprise=MIN_SURPRISE - 1), COPY]) == set()
    assert copies([FIRST, replace(COPY, author="alice")]) == set()
    assert copies([FIRST, replace(COPY, digest=b"other")]) == set()


@given(st.permutations([FIRST, COPY, replace(COPY, key="c", author="carol", committed=9.0)]))
def test_order_does_not_matter(works):
    assert copies(works) == {"b", "c"}
