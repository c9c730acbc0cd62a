"""python -m bench.network: how long until all peers of a round have what they want, and what it costs.

`ours` announces and fetches from the peers that the seed draws; `anchor` is GenRL 0.3.0's all-gather, everybody's
payload under one DHT key. Both on the same hivemind, one after the other, in the same processes and on the same lines.
Real peers talk libp2p over loopback, several in a process; simulated ones are in one process, over an in-memory
medium and in virtual time. With --table all cases are measured, as far as --minutes reach, and written to
bench/results/network.md.
"""

import argparse
import ctypes
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from bench.machine import describe

RESULT = Path(__file__).parent / "results" / "network.md"
REAL = [(peers, kb, False) for kb in (100, 10, 200) for peers in (32, 8, 64)]
SIMULATED = [(peers, 100, True) for peers in (100, 1000, 300)]
PEERS_PER_PROCESS = 8
START_S = 300.0
SETTLE_S = 8.0
"""Between the last peer's start and the exchange: what daemons do after their start is no part of it."""
_NEW_NET, _NEW_USER = 0x40000000, 0x10000000


def own_loopback() -> bool:
    """Move this process into a network namespace of its own, where loopback carries nothing but the bench."""
    if sys.platform != "linux" or not shutil.which("ip"):
        return False
    libc, user, group = ctypes.CDLL(None), os.getuid(), os.getgid()
    if libc.unshare(_NEW_NET) != 0:
        if libc.unshare(_NEW_USER | _NEW_NET) != 0:
            return False
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(text)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return True


def loopback_bytes() -> int:
    return int(psutil.net_io_counters(pernic=True)["lo"].bytes_recv)


def cpu_seconds(processes: list[subprocess.Popen[str]]) -> float:
    """Of these processes and their children, the libp2p daemons."""
    total = 0.0
    for process in processes:
        root = psutil.Process(process.pid)
        for each in [root, *root.children(recursive=True)]:
            times = each.cpu_times()
            total += times.user + times.system
    return total


def heard(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process of the bench ended with {process.wait()}; its errors are above")
    return json.loads(line)


def tell(processes: list[subprocess.Popen[str]], message: object) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()


def measure(system: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, bytes, CPU seconds and completeness of one system in one case."""
    peers = options.peers
    count = 1 if options.simulated else min(os.cpu_count() or 1, -(-peers // PEERS_PER_PROCESS))
    bounds = [peers * i // count for i in range(count + 1)]
    processes = []
    for first, end in itertools.pairwise(bounds):
        share = {"system": system, "simulated": options.simulated, "peers": peers, "first": first, "count": end - first}
        share |= {"payload_bytes": options.payload_kb * 1000, "sample": options.sample}
        share |= {"limit_s": options.limit_s, "seed": options.seed}
        command = [sys.executable, "-m", "bench.network_peers", json.dumps(share)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    longest_s = START_S + 2 * options.limit_s
    if options.simulated:
        longest_s = options.simulated_limit_s if system == "ours" else options.anchor_limit_s
    watchdog = threading.Timer(longest_s, lambda: [process.kill() for process in processes])
    watchdog.start()
    try:
        tell(processes, heard(processes[0])["bootstrap"])
        for process in processes[1:]:
            heard(process)
        for process in processes:
            heard(process)
        time.sleep(0 if options.simulated else SETTLE_S)
        bytes_before, cpu_before, started = loopback_bytes(), cpu_seconds(processes), time.monotonic()
        tell(processes, "go")
        told = [heard(process) for process in processes]
        cpu_s, moved = cpu_seconds(processes) - cpu_before, loopback_bytes() - bytes_before
        tell(processes, "end")
    finally:
        watchdog.cancel()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if options.simulated:
        started = told[0]["began"]
    ends = [end for part in told for end in part["ends"]]
    served = [end for end in ends if end is not None]
    return {
        "seconds_all_served": round(max(served) - started, 2) if len(served) == peers else None,
        "bytes_per_peer": round((told[0]["bytes"] if options.simulated else moved) / peers),
        "cpu_seconds": round(cpu_s, 1),
        "complete": round(len(served) / peers, 3),
    }


def attempt(system: str, options: argparse.Namespace) -> dict[str, Any]:
    """As `measure`; nothing is known of a system that does not come to an end."""
    try:
        return measure(system, options)
    except (RuntimeError, psutil.NoSuchProcess) as error:
        print(f"{system} did not come to an end: {error}", file=sys.stderr)
        return {"seconds_all_served": None, "bytes_per_peer": None, "cpu_seconds": None, "complete": None}


def run_case(options: argparse.Namespace) -> dict[str, Any]:
    named = ("peers", "payload_kb", "simulated", "sample", "limit_s", "seed")
    case = {name: getattr(options, name) for name in named}
    return {**case, "ours": attempt("ours", options), "anchor": attempt("anchor", options)}


def cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Those of the table, the real ones first; 32 peers x 100 KB also with everybody fetching from everybody.

    Simulations are done once: two of them differ by what was drawn and by nothing else.
    """
    once = [*((*case, options.sample) for case in REAL), (32, 100, False, 0)]
    listed = [(*case, 0) for case in [*once, *((*case, options.sample) for case in SIMULATED)]]
    listed += [(*case, seed) for seed in range(1, options.seeds) for case in once]
    named = ("peers", "payload_kb", "simulated", "sample", "seed")
    return [{**dict(zip(named, case, strict=True)), "limit_s": options.limit_s} for case in listed]


def table(options: argparse.Namespace) -> int:
    """Measure the cases that --lines does not hold yet, and write what there is. 0 if all are there."""
    until = time.monotonic() + options.minutes * 60
    options.lines.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.lines.read_text().splitlines()] if options.lines.exists() else []
    missing = 0
    for case in cases(options):
        if any(case.items() <= row.items() for row in rows):
            continue
        simulated_s = options.simulated_limit_s + options.anchor_limit_s
        if time.monotonic() + (simulated_s if case["simulated"] else 2 * case["limit_s"]) > until:
            missing += not case["seed"]
            continue
        row = {**run_case(argparse.Namespace(**{**vars(options), **case})), "machine": describe()}
        rows.append(row)
        with options.lines.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print("\n".join(lines_of([row])), flush=True)
    RESULT.write_text(page(rows, missing, options))
    print(f"{RESULT}: {len(rows)} cases, {missing} left", file=sys.stderr)
    return 1 if missing else 0


def lines_of(runs: list[dict[str, Any]]) -> list[str]:
    """The runs of a case as two rows of the table."""
    row = runs[0]
    kind = "simulated" if row["simulated"] else "real"
    fetch = f"{row['sample']}" if row["sample"] else "all"
    lines = []
    for system, name in (("ours", f"ours, from {fetch}"), ("anchor", "anchor")):
        found = [run[system] for run in runs]
        cells = [
            spread([one[what] for one in found], scale, digits)
            for what, scale, digits in (
                ("complete", 0.01, 0), ("seconds_all_served", 1, 1), ("bytes_per_peer", 1e6, 2), ("cpu_seconds", 1, 1)
            )
        ]  # fmt: skip
        lines.append(f"| {row['peers']} {kind} | {row['payload_kb']} KB | {name} | {' | '.join(cells)} |")
    return lines


def spread(values: list[float | None], scale: float, digits: int) -> str:
    """The median and, where there are several, what they lie between; "-" for a run that did not end."""
    known = sorted(value / scale for value in values if value is not None)
    if 2 * len(known) <= len(values):
        return "-"
    told = f"{statistics.median(known):.{digits}f}"
    if len(values) > 1:
        told += f" ({known[0]:.{digits}f} to {known[-1]:.{digits}f}" + (")" if len(known) == len(values) else ", or -)")
    return told


def page(rows: list[dict[str, Any]], missing: int, options: argparse.Namespace) -> str:
    cases: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["simulated"], row["payload_kb"], row["peers"], -row["sample"])):
        cases.setdefault((row["simulated"], row["payload_kb"], row["peers"], row["sample"]), []).append(row)
    seeds = sorted({row["seed"] for row in rows})
    limit_s = " or ".join(f"{limit:.0f}" for limit in sorted({row["limit_s"] for row in rows}))
    head = f"""\
# A round's payloads, from everybody to those who want them

`make bench-network`, that is `python -m bench.network --table`; one case: `python -m bench.network --peers 32
--payload-kb 100 --json`.{f" {missing} cases of the table were not measured." if missing else ""}

{rows[0]["machine"].rstrip() if rows else ""}
- `anchor`: GenRL 0.3.0's all-gather reimplemented (every payload under one DHT key, `get` until all are there) on the
  same hivemind; `ours`: signed announcements, then blobs from the peers that the seed draws
- real peers have met {SETTLE_S:.0f} s before the exchange begins
- complete: peers that had all they wanted within {limit_s} s; seconds until the last of them had it
  (-: not everybody); MB: bytes received per peer, over loopback with libp2p's own, or payload bytes when simulated
- seeds {", ".join(map(str, seeds))}: the median and, of several runs, what they lie between; simulations once
- CPU seconds of all peers and their libp2p daemons together
- simulated: one process on one core for all, in virtual time: its seconds are those of lines of 20 ms and 100 Mbit/s
  and of the protocol's own waits, and computing takes none; a signature is verified once per simulation; `-` in all
  columns: the simulation was given up, ours after {options.simulated_limit_s:.0f} s of this machine, the anchor's
  (whose answers are beyond the 4 MiB of one message) after {options.anchor_limit_s:.0f} s

| peers | payload | system | complete, % | seconds | MB per peer | CPU seconds |
|---|---|---|---|---|---|---|
"""
    return head + "\n".join(line for runs in cases.values() for line in lines_of(runs)) + "\n"


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.network", description=__doc__)
    p.add_argument("--peers", type=int, default=8)
    p.add_argument("--payload-kb", type=int, default=10, help="thousands of bytes that each peer publishes")
    p.add_argument("--simulated", action="store_true", help="in memory, one process")
    p.add_argument("--sample", type=int, default=8, metavar="K", help="fetch from K peers (default: 8); 0: from all")
    p.add_argument(
        "--limit-s", type=float, default=60, help="seconds after which a peer gives up, in its own time (default: 60)"
    )
    p.add_argument(
        "--simulated-limit-s", type=float, default=600, help="seconds of this machine for one simulation (default: 600)"
    )
    p.add_argument("--anchor-limit-s", type=float, default=120, help="the same for the anchor's (default: 120)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--seeds", type=int, default=3, help="with --table: runs of each real case (default: 3)")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    p.add_argument("--table", action="store_true", help="measure all cases and write bench/results/network.md")
    p.add_argument("--minutes", type=float, default=60, help="with --table: begin no case that might end later")
    p.add_argument("--lines", type=Path, default=Path("runs/network.jsonl"), help="with --table: what was measured")
    options = p.parse_args()
    if not own_loopback():
        print("no network namespace of its own: the bytes of others on loopback are counted too", file=sys.stderr)
    if options.table:
        return table(options)
    row = run_case(options)
    print(json.dumps(row) if options.json else "\n".join(lines_of([row])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
