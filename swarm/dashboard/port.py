"""Ports on command lines."""

import argparse

DASHBOARD = 8420
"""Where the dashboard listens unless another is named."""


def port_number(text: str) -> int:
    """A port, for argparse; 0 is any that is free."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return value
