"""The nearest valid name, for error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` or, where nothing is near, the valid names themselves (the first 12)."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid are: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}" if names else ""
