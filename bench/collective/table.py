"""The results as Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parents[1] / "results" / "collective.md"


def read(files: Sequence[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def write(files: Sequence[Path]) -> str:
    raise NotImplementedError
