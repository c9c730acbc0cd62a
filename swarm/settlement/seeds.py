"""The seeds of past rounds, as the chain gives them."""

from swarm.chain.client import Chain, ChainUnavailable
from swarm.journal.journal import Journal
from swarm.round.clock import Clock
from swarm.round.seed import chain_seed, foreseeable_seed


class Seeds:
    """Seeds by round. One that was played without the chain had a seed that could be foreseen, and earns nothing."""

    def __init__(self, chain: Chain, swarm: str, clock: Clock, journal: Journal) -> None:
        self._chain = chain
        self._swarm = swarm
        self._clock = clock
        self._journal = journal
        self._known: dict[int, bytes] = {}

    def of(self, number: int) -> bytes:
        """32 bytes.

        Raises:
            ChainUnavailable: no answer, or the round has not begun.
        """
        if number not in self._known:
            played = self._journal.seeds(number, number).get(number)
            if played is None or played == foreseeable_seed(self._swarm, number):
                played = chain_seed(self._chain, self._swarm, self._clock, number)
            if played is None:
                raise ChainUnavailable(f"the chain has no block yet for the seed of round {number}")
            self._known[number] = played
        return self._known[number]
