"""Who the peers of a round belonged to when it began: nobody judges a peer of the same owner."""

import logging
from collections.abc import Collection, Mapping

from swarm.chain.client import ChainUnavailable
from swarm.chain.owners import OwnerHistory
from swarm.chain.registry import Registry
from swarm.round.assignment import Owners
from swarm.round.clock import Clock

logger = logging.getLogger(__name__)


def owners_of(registry: Registry, clock: Clock) -> Owners:
    """What the chain says. It raises ChainUnavailable where there is no answer."""
    history = OwnerHistory(registry)
    return lambda number, peers: history.of(peers, clock.start(number))


def owners_if_known(registry: Registry, clock: Clock) -> Owners:
    """The same for a round that has to go on while the chain is away: then nobody has an owner."""
    ask = owners_of(registry, clock)

    def owners(number: int, peers: Collection[str]) -> Mapping[str, str]:
        try:
            return ask(number, peers)
        except ChainUnavailable as error:
            logger.warning("round %d is assigned without owners: %s", number, error)
            return {}

    return owners
