"""Who may touch what, as docs/architecture.md says."""

import ast
import tomllib
from pathlib import Path

import pytest

SWARM = Path(__file__).parents[1] / "swarm"
COMMON = {"swarm", "swarm.errors"}
MAY_USE = {
    "recipe": {"recipe"},
    "judging": set(),
    "identity": {"identity"},
    "chain": {"chain", "identity", "journal"},
    "network": {"network", "identity"},
    "training": {"training", "recipe"},
    "journal": {"journal"},
    "settlement": {"settlement", "round", "recipe", "judging", "network", "chain", "identity", "journal"},
    "onchain": {"onchain", "chain", "identity", "journal", "network", "recipe", "round", "settlement"},
    "verify": {"verify", "round", "recipe", "judging", "network", "chain", "training", "journal"},
    "dashboard": {"dashboard", "journal", "chain", "identity", "judging", "network", "recipe", "round", "settlement"},
}
FORBIDDEN = {
    "recipe": {"torch", "transformers", "hivemind", "socket", "requests", "urllib", "time"},
    "judging": {"torch", "hivemind", "time", "random", "socket", "os", "pathlib"},
    "training": {"hivemind", "swarm.network", "swarm.round"},
    "settlement": {"torch", "transformers"},
    "dashboard": {"torch", "transformers", "hivemind"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("room", sorted(MAY_USE))
def test_a_room_uses_only_what_it_may(room):
    for path in (SWARM / room).rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in FORBIDDEN.get(room, set()), f"{path} imports {name}"
            if name.split(".")[0] == "swarm" and name not in COMMON and name.count("."):
                used = name.split(".")[1]
                shared = {"errors", "events", "lifetime"}
                assert used in MAY_USE[room] | shared, f"{path} imports {name}"


def test_every_room_is_in_the_package():
    """An editable install hides a room that a wheel would lack."""
    listed = set(tomllib.loads((SWARM.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    rooms = {f"swarm.{path.parent.name}" for path in SWARM.glob("*/__init__.py")}
    assert rooms | {"swarm"} <= listed


def test_nothing_is_ever_unpickled_or_evaluated():
    for path in SWARM.rglob("*.py"):
        names = set(imports(path))
        assert not names & {"pickle", "dill", "cloudpickle", "marshal", "shelve"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load"}, (path, called)
