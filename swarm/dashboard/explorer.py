"""Block explorers: where a person looks up an account, a contract or a transaction."""

import argparse
from urllib.parse import urlsplit

EXPLORERS = {
    1: "https://etherscan.io",
    10: "https://optimistic.etherscan.io",
    8453: "https://basescan.org",
    42161: "https://arbiscan.io",
    84532: "https://sepolia.basescan.org",
    11155111: "https://sepolia.etherscan.io",
}
"""Of well-known chains, by chain id. All have pages /address/0x… and /tx/0x…, as others do."""


def explorer_url(text: str) -> str:
    """The beginning of an explorer's addresses, for argparse."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is no explorer's address; it looks like https://explorer.example"
        )
    return text.rstrip("/")
