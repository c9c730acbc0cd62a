"""A peer that settles falsely: it gives itself, or the peer that its fellow liars favour, a thousand points more.

It does all else honestly, and agrees with whoever lies in the same way. Run by test_settlement.py.
"""

import sys

from swarm.join import main
from swarm.settlement import recomputation
from swarm.settlement.compute import settle


def lie(basis, manifests, counted, body_of):
    truth = settle(basis, manifests, counted, body_of)
    favoured = min(truth.points)
    return truth.model_copy(update={"points": {**truth.points, favoured: truth.points[favoured] + 1_000_000_000}})


if __name__ == "__main__":
    recomputation.settle = lie
    sys.exit(main())
