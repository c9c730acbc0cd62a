"""Two peers in two homes behind NATs exchange a blob through public relays; in network namespaces."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APART = ["unshare", "-Urnm", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$0" "$@"']
PROBE = (
    "ip netns add probe && ip netns exec probe nft list ruleset && "
    "ip link add name here type veth peer name there netns probe"
)


def why_not() -> str:
    missing = [tool for tool in ("unshare", "ip", "nft", "sysctl") if not shutil.which(tool)]
    if missing:
        return f"needs {', '.join(missing)}"
    tried = subprocess.run([*APART, "sh", "-c", PROBE], capture_output=True, text=True, timeout=30)
    return f"no network namespaces here: {tried.stderr.strip()[:200]}" if tried.returncode else ""


def test_a_peer_in_one_home_serves_a_peer_in_another() -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    ran = subprocess.run(
        [*APART, sys.executable, "-m", "tests.network.homes_lab"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    saw = json.loads(ran.stdout.splitlines()[-1])
    assert saw["fetched"] == saw["wanted"] == 300_000
    assert saw["heard"] == "from home a"
    assert [way for way in saw["ways"] if way.endswith("/udp/4001/quic-v1")], "the relays are connected by QUIC"
    assert all("/p2p-circuit" in address for address in saw["addresses"] if "192.168." not in address)
