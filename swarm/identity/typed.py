"""The 32 bytes that a signature of typed data (EIP-712) is over, as the contract computes them."""

from typing import Any

from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak

Types = dict[str, list[dict[str, str]]]
"""Struct name to its fields, each `{"name": ..., "type": ...}`; without EIP712Domain, which follows from the domain."""


def typed_digest(domain: dict[str, Any], types: Types, message: dict[str, Any]) -> bytes:
    """keccak256 of 0x1901, domain separator and struct hash."""
    encoded = encode_typed_data(domain, types, message)
    return keccak(b"\x19" + encoded.version + encoded.header + encoded.body)
