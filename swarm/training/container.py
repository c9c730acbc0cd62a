"""How much memory a container, or any other Linux control group, leaves to this process.

`psutil` tells what the machine has free; in a container with less, whoever takes that is killed.
"""

from collections.abc import Iterator
from pathlib import Path

LARGEST = 2**50
"""Above it, a number stands for no limit."""


def free_bytes(root: Path = Path("/")) -> int | None:
    """Bytes until the tightest limit of this process's groups, page cache that can be given back counted as free; None
    where there is no limit, or no control groups.

    Args:
        root: of the file system, for tests.
    """
    found = [left for folder in _folders(root) if (left := _left(folder)) is not None]
    return min(found, default=None)


def _folders(root: Path) -> Iterator[Path]:
    """This process's memory groups and those they lie in. In a container the paths may be those of the host, where the
    mounted folder is the group itself."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
        else:
            continue
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):
            yield mount / folder


def _left(folder: Path) -> int | None:
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # absent, or "max"
            continue
        if most < LARGEST:
            return max(0, most - used + int(stat.get(cache, 0)))
    return None
