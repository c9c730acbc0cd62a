import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PARENT = (
    "import sys, time\nfrom tests.lifetime import start\n"
    "print(start(['sleep', '60'], start_new_session=True).pid, flush=True)\nsys.stdin.read()"
)


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_test_started_ends_with_the_tests(killed):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    started = psutil.Process(int(parent.stdout.readline()))
    assert started.is_running()
    if killed:
        parent.kill()
    parent.communicate(timeout=30)
    started.wait(30)
