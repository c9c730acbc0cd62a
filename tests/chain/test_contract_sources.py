"""The contract's sources, where node is there to compile them; without it the committed artifact stands for them."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", target], cwd=ROOT, capture_output=True, text=True, timeout=280)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not there; the artifact is checked where it is")
def test_the_sources_give_the_artifact_and_take_the_gas_that_is_committed():
    tools = make("contracts-tools")
    if tools.returncode:
        pytest.skip(f"npm cannot install the contract's tools: {tools.stderr[-300:]}")
    check = make("contracts-check")
    assert check.returncode == 0, check.stdout + check.stderr
