"""The network: signed announcements in a DHT and content-addressed blobs between peers. Knows nothing of learning."""

from swarm.network.announcements import Announcement
from swarm.network.blobs import BlobRef, BlobUnavailable
from swarm.network.invite import Invite
from swarm.network.node import Network
from swarm.network.transfer import Traffic, UploadLimits

__all__ = ["Announcement", "BlobRef", "BlobUnavailable", "Invite", "Network", "Traffic", "UploadLimits"]
