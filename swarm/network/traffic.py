"""What went through this peer's network, and what waits in it."""

from dataclasses import dataclass


@dataclass
class Traffic:
    """Bytes and counts since start, in (from others) and out (to them), by kind."""

    bytes_in: int = 0
    """Of blobs, also of those that broke off."""
    bytes_out: int = 0
    blobs_in: int = 0
    """Blobs that arrived whole, and those that were served to the end."""
    blobs_out: int = 0
    dht_in: int = 0
    """Bytes of announcements, and of the calls between DHT nodes around them."""
    dht_out: int = 0


@dataclass(frozen=True)
class Queues:
    """How much is under way at this moment."""

    uploads: int
    fetches: int
    questions: int
    """Peers about whom the chain is being asked."""
    records: int
    """Announcements of others and of this peer that are kept for readers."""
