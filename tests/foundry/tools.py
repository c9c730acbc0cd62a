"""anvil and cast, another chain and another wallet to test against, from npm in the pinned versions."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

FOLDER = Path(__file__).parent
INSTALL_TIMEOUT_S = 240


@cache
def tool(name: str) -> Path:
    """The program, installed on first use; the test is skipped, with the reason, where that cannot be."""
    if shutil.which("npm") is None:
        pytest.skip(f"{name} is installed with npm, and there is none on this machine")
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"][f"@foundry-rs/{name}"]
    with FileLock(FOLDER / "node_modules.lock", timeout=INSTALL_TIMEOUT_S):
        if _installed(name) != wanted:
            done = subprocess.run(
                # Not `npm ci`: it wants the packages for all kinds of machines in the lock, and mirrors may lack some.
                ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=FOLDER,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
                check=False,
            )
            if done.returncode != 0:
                pytest.fail(f"npm cannot install {name}: {done.stderr.strip()[-300:]}")
    programs = list(FOLDER.glob(f"node_modules/@foundry-rs/{name}-*/bin/{name}*"))
    if not programs:
        pytest.skip(f"there is no {name} for this kind of machine")
    return programs[0]


def _installed(name: str) -> str | None:
    package = FOLDER / "node_modules" / "@foundry-rs" / name / "package.json"
    return json.loads(package.read_text())["version"] if package.exists() else None
