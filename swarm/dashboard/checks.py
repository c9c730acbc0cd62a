"""The commands by which a visitor checks what the page says."""

import shlex
from pathlib import Path


class Checks:
    """Commands that read one home."""

    def __init__(self, home: Path, *, show_path: bool) -> None:
        """`show_path`: name the home by its path, so that a command works in every folder of this machine; else only
        by its name, since strangers need not learn where the homes are."""
        self._home = shlex.quote(str(home) if show_path else home.name)

    def settlement(self, epoch: int) -> str:
        """Does the sums of an epoch again."""
        return f"python -m swarm audit {epoch} --home {self._home}"

    def registration(self, peer_id: str) -> str:
        """Asks the chain whether a peer is registered."""
        return f"python -m swarm registered --peer {shlex.quote(peer_id)} --home {self._home}"
