"""The limits of control groups, as Linux shows them in files."""

import pytest

from swarm.training.container import free_bytes

GB = 10**9


def lay(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def group(root, path, limit, usage, cache=0, version=2):
    names = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    folder = f"sys/fs/cgroup{'/memory' if version == 1 else ''}/{path}".rstrip("/")
    values = (limit, usage, f"anon 5\n{names[2]} {cache}")
    for name, text in zip((*names[:2], "memory.stat"), values, strict=True):
        lay(root, **{f"{folder}/{name}": text})


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_of_the_groups_counts(tmp_path, version):
    line = "0::/a/b" if version == 2 else "7:cpu,memory:/a/b\n0::/"
    lay(tmp_path, **{"proc/self/cgroup": line})
    group(tmp_path, "a/b", 8 * GB, GB, version=version)
    assert free_bytes(tmp_path) == 7 * GB
    group(tmp_path, "a", 3 * GB, GB, cache=GB // 2, version=version)
    assert free_bytes(tmp_path) == 2.5 * GB, "the group around it is tighter; its cache can be given back"


def test_inside_a_container_the_mount_is_the_group(tmp_path):
    lay(tmp_path, **{"proc/self/cgroup": "4:memory:/docker/0123abcd"})
    group(tmp_path, "", 2 * GB, GB, version=1)
    assert free_bytes(tmp_path) == GB


def test_no_limit_is_none(tmp_path):
    assert free_bytes(tmp_path) is None, "no control groups at all"
    lay(tmp_path, **{"proc/self/cgroup": "4:memory:/\n0::/x"})
    assert free_bytes(tmp_path) is None
    group(tmp_path, "x", "max", GB)
    group(tmp_path, "", 9223372036854771712, GB, version=1)
    assert free_bytes(tmp_path) is None


def test_more_than_the_limit_leaves_nothing(tmp_path):
    lay(tmp_path, **{"proc/self/cgroup": "0::/"})
    group(tmp_path, "", GB, 2 * GB)
    assert free_bytes(tmp_path) == 0
