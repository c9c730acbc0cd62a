"""The contract's sources, where node is there to compile them; without it the committed artifact stands for them."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not there; the artifact is checked where it is")
def test_the_sources_give_the_artifact_and_take_the_gas_that_is_committed():
    check = subprocess.run(["make", "contracts-check"], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert check.returncode == 0, check.stdout + check.stderr
