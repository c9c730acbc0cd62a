"""The description of the API in OpenAPI 3.1."""

from typing import Any

from swarm import __version__
from swarm.dashboard.definitions import DEFINITIONS

_PATHS: dict[str, tuple[str, tuple[str, ...]]] = {
    "/api/status": ("What goes on now: round, stage, peers, held-out accuracy, epoch, and what is stale and why.", ()),
    "/api/leaderboard": ("All peers, those with the most points first.", ()),
    "/api/peers/{peer_id}": (
        "One peer: its row, rounds, held-out accuracy, calibration and newest records.",
        ("peer_id",),
    ),
    "/api/rounds": (
        "Rounds before number `before`, the newest first; `limit` is 200 at most.",
        ("before", "limit"),
    ),
    "/api/rounds/{number}": (
        "One round in full: tasks, answers, critiques, verdicts, jury, revisions, feed.",
        ("number",),
    ),
    "/api/learning": ("Curves over the rounds, per peer and as the swarm's mean; averaged to 500 points at most.", ()),
    "/api/trust": ("Audits, refused records, equivocations and settlements.", ()),
    "/api/definitions": ("What each number means, in one sentence.", ()),
}
_TEXTS = {
    "/api/leaderboard.csv": ("text/csv", "The leaderboard as CSV."),
    "/api/rounds.csv": ("text/csv", "All rounds as CSV."),
    "/api/learning.csv": ("text/csv", "The curves as CSV."),
    "/metrics": ("text/plain", "The same for Prometheus."),
    "/api/changes": ("text/event-stream", "Server-sent events `changed` with the parts that changed."),
}
_ERROR = {
    "description": "One sentence that says what is wrong.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
        }
    },
}


def document() -> dict[str, Any]:
    """All paths. Every answer is an object; its fields are described where a definition has their name."""
    paths: dict[str, Any] = {}
    for path, (summary, parameters) in _PATHS.items():
        paths[path] = _get(summary, "application/json", {"type": "object"}, path, parameters)
    for path, (kind, summary) in _TEXTS.items():
        paths[path] = _get(summary, kind, {"type": "string"}, path, ())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rl-swarm dashboard",
            "version": __version__,
            "description": "Read-only. Times are unix seconds; null is what is not known; texts of peers are as they "
            "wrote them and are to be shown as text.\n\n"
            + "\n".join(f"- `{name}`: {sentence}" for name, sentence in DEFINITIONS.items()),
        },
        "paths": paths,
    }


def _get(summary: str, kind: str, schema: dict[str, Any], path: str, parameters: tuple[str, ...]) -> dict[str, Any]:
    described = [
        {
            "name": name,
            "in": "path" if f"{{{name}}}" in path else "query",
            "required": f"{{{name}}}" in path,
            "schema": {
                "type": "string" if name == "peer_id" else "integer",
                **({} if name == "peer_id" else {"minimum": 0}),
            },
        }
        for name in parameters
    ]
    answers = {"200": {"description": summary, "content": {kind: {"schema": schema}}}, "default": _ERROR}
    return {"get": {"summary": summary, "parameters": described, "responses": answers}}
