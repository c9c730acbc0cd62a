"""Moves signed bytes between peers: announcements in the DHT, content-addressed blobs over libp2p, invites."""
