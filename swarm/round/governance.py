"""What the swarm's governance changes while peers run."""

import time
from dataclasses import dataclass, field

from swarm.chain.client import ChainUnavailable
from swarm.chain.registry import Registry
from swarm.errors import SwarmError
from swarm.events import Emitter

ASK_EVERY_S = 60.0


@dataclass
class RecipeWatch:
    """Tells of another recipe when it is announced, and ends the peer when it applies."""

    registry: Registry
    recipe_hash: bytes
    emit: Emitter
    _asked: float = field(default=float("-inf"), init=False)
    _announced: bytes = field(default=b"", init=False)

    def look(self) -> None:
        """Ask the chain now and then. Without an answer nothing changes.

        Raises:
            SwarmError: the swarm has another recipe now.
        """
        if time.monotonic() - self._asked < ASK_EVERY_S:
            return
        self._asked = time.monotonic()
        try:
            current, (announced, applies_at) = self.registry.recipe_change()
        except ChainUnavailable:
            return
        if current != self.recipe_hash:
            raise SwarmError(
                f"the swarm's governance has changed the recipe (its hash is {current.hex()[:12]} now, this peer runs "
                f"{self.recipe_hash.hex()[:12]}); start again with --recipe and the new file, and this home goes on"
            )
        if applies_at and announced != self._announced:
            self._announced = announced
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(applies_at))
            self.emit(
                "recipe_change",
                what=f"the swarm's governance will change the recipe, from {when} on, to one with the hash "
                f"{announced.hex()[:12]}; who does not agree can leave before",
                applies_at=applies_at,
            )
