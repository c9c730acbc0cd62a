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


def chain_seed(chain: Chain, swarm: str, clock: Clock, number: int) -> bytes | None:
    """32 bytes from the first block at or after the round's start; None while there is no such block.

    Raises:
        ChainUnavailable: no answer.
    """
    block = chain.first_block_at(int(clock.start(number)))
    return None if block is None else digest("round seed", *_parts(swarm, number), block.hash)


def foreseeable_seed(swarm: str, number: int) -> bytes:
    """32 bytes that all peers agree on without the chain, and that anybody could have known before the round."""
    return digest("round seed without chain", *_parts(swarm, number))


def round_seed(chain: Chain, swarm: str, clock: Clock, number: int) -> tuple[bytes, bool]:
    """The seed of a round that is about to start, and whether the chain gave it; if not, it could be foreseen."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            seed = chain_seed(chain, swarm, clock, number)
        except ChainUnavailable as error:
            logger.warning("no seed from the chain for round %d: %s", number, error)
            break
        if seed is not None:
            return seed, True
        time.sleep(_POLL_S)
    return foreseeable_seed(swarm, number), False


def _parts(swarm: str, number: int) -> tuple[bytes, bytes]:
    return swarm.encode(), number.to_bytes(8, "big")
