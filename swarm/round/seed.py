"""The seed of a round: nobody could choose it, and nobody knew it before the round."""

import logging
import time

from swarm.chain.client import Chain, ChainUnavailable
from swarm.identity.key import digest
from swarm.round.clock import Clock

logger = logging.getLogger(__name__)

PATIENCE_S = 15.0
"""A block of Ethereum takes up to 12 s; a development chain makes one when it is asked."""
_POLL_S = 0.2


def round_seed(chain: Chain, swarm: str, clock: Clock, number: int) -> tuple[bytes, bool]:
    """32 bytes from the first block at or after the round's start, and whether the chain gave them.

    Without the chain the seed follows from swarm and number alone: all peers agree on it, but it could be foreseen.
    """
    deadline = time.monotonic() + PATIENCE_S
    parts = (swarm.encode(), number.to_bytes(8, "big"))
    while time.monotonic() < deadline:
        try:
            block = chain.first_block_at(int(clock.start(number)))
        except ChainUnavailable as error:
            logger.warning("no seed from the chain for round %d: %s", number, error)
            break
        if block is not None:
            return digest("round seed", *parts, block.hash), True
        time.sleep(_POLL_S)
    return digest("round seed without chain", *parts), False
