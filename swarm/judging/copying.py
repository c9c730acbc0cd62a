"""Work that was published twice: whoever runs one model under many names generates once, and is paid once."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

MIN_SURPRISE = 20.0
"""Nats. Two peers sample the same group by chance with a probability of exp(-surprise): at 20, two in a thousand
million. Below that, equal groups are no copies."""


@dataclass(frozen=True)
class Work:
    """One group of completions as a peer published it."""

    key: Hashable
    author: str
    digest: bytes
    """Of the sampled tokens of all its completions, and of the task."""
    surprise: float
    """Minus the sum of the claimed log-probabilities, in nats."""
    committed: float
    """By its author's signed announcement; unix seconds."""


def copies(works: Iterable[Work]) -> set[Hashable]:
    """The keys of works that another author committed to before; of two at the same moment the lower id is first.

    The largest surprise that anybody claims for the same tokens counts, so a copy cannot pass itself off as likely.
    """
    same: defaultdict[bytes, list[Work]] = defaultdict(list)
    for work in works:
        same[work.digest].append(work)
    found: set[Hashable] = set()
    for group in same.values():
        first = min(group, key=lambda work: (work.committed, work.author))
        if max(work.surprise for work in group) >= MIN_SURPRISE:
            found |= {work.key for work in group if work.author != first.author}
    return found
