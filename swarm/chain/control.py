"""The registry's brake: the guardian pauses, governance lets go on."""

from eth_utils.address import to_checksum_address

from swarm.chain.client import Transaction
from swarm.chain.registry import Registry


class Control:
    """The pause of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_paused(self) -> bool:
        return self._registry.view("paused")

    def governance(self) -> str:
        """Who can end a pause."""
        return to_checksum_address(self._registry.view("governance"))

    def pause(self) -> Transaction:
        """Stops registering, linking, claiming and staking, sent by the guardian."""
        return self._registry.transaction("pause")

    def unpause(self) -> Transaction:
        """Ends a pause, sent by governance."""
        return self._registry.transaction("unpause")
