"""The network: signed announcements in a DHT and content-addressed blobs between peers. Knows nothing of learning.

The names below are imported when they are asked for: whoever only reads announcements does not load the network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarm.network.announcements import Announcement
    from swarm.network.blobs import BlobRef, BlobUnavailable
    from swarm.network.invite import Invite
    from swarm.network.node import Network
    from swarm.network.serving import UploadLimits
    from swarm.network.traffic import Traffic

__all__ = ["Announcement", "BlobRef", "BlobUnavailable", "Invite", "Network", "Traffic", "UploadLimits"]

_MODULES = {
    "Announcement": "announcements",
    "BlobRef": "blobs",
    "BlobUnavailable": "blobs",
    "Invite": "invite",
    "Network": "node",
    "Traffic": "traffic",
    "UploadLimits": "serving",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
