"""How a helper process lives no longer than the process that started it, whatever kills that one.

Two independent signs, since one alone can fail: standard input ends (the starter held its other end, but a forked
sibling may hold it open too), and the parent changes. PR_SET_PDEATHSIG of Linux is not used: it also kills the helper
when only the thread that started it ends.
"""

import os
import sys
import threading
import time
from collections.abc import Callable

_POLL_S = 0.5


def end_with_parent(end: Callable[[], None]) -> None:
    """Call `end` from another thread once the parent is gone. Standard input is not watched if it is a terminal."""
    parent = os.getppid()

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        end()

    def watch_input() -> None:
        while os.read(0, 4096):
            pass
        end()

    threading.Thread(target=watch_parent, name="watch-parent", daemon=True).start()
    if sys.stdin is not None and not sys.stdin.isatty():
        threading.Thread(target=watch_input, name="watch-input", daemon=True).start()
