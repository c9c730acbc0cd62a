"""Processes that the tests start and that would go on for ever: they end when the test process does, however it ends.

One guard for them all, in a session of its own: its input ends with the test process, and then it kills what is left.
"""

import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

_GUARD = """
import sys
import psutil
started = [line.split() for line in sys.stdin]
for pid, since in started:
    try:
        process = psutil.Process(int(pid))
        if process.create_time() == float(since):
            process.kill()
    except psutil.NoSuchProcess:
        pass
"""


def start(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
    """`subprocess.Popen` of a process that does not outlive this one."""
    guard = _guard()
    process = subprocess.Popen(command, **options)
    assert guard.stdin is not None
    guard.stdin.write(f"{process.pid} {psutil.Process(process.pid).create_time()!r}\n")
    guard.stdin.flush()
    return process


@functools.cache
def _guard() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _GUARD], stdin=subprocess.PIPE, text=True, start_new_session=True)
