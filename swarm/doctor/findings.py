"""What the doctor says: one sentence per thing that it looked at."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "problem", "skipped"]


@dataclass(frozen=True)
class Finding:
    """`about` is one word; `sentence` says what is so and, unless that is well, what to do."""

    about: str
    verdict: Verdict
    sentence: str


def as_text(findings: Iterable[Finding]) -> str:
    marks = {"ok": "ok", "warning": "warn", "problem": "PROBLEM", "skipped": "-"}
    return "\n".join(f"{marks[found.verdict]:8}{found.about:10}{found.sentence}" for found in findings)


def as_json(findings: Iterable[Finding]) -> str:
    """One object: when, whether all is well, and the findings."""
    listed = [asdict(found) for found in findings]
    return json.dumps({"at": round(time.time(), 3), "well": not is_ill(findings), "findings": listed}, indent=2)


def is_ill(findings: Iterable[Finding]) -> bool:
    return any(found.verdict == "problem" for found in findings)


Check = Callable[[], Iterable[Finding]]


def run(about: str, check: Check) -> list[Finding]:
    """What a check found. One that fails in a way nobody foresaw is a finding too: the others still run."""
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 - the doctor's own bug must not hide what the other checks found
        what = f"could not be checked: {type(error).__name__}: {error}; this is a bug, please report it"
        return [Finding(about, "problem", what)]
