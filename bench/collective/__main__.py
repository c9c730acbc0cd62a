"""python -m bench.collective: what peers gain from each other; the results go to a file as JSON lines.

Runs that the file already holds are left out, so a run that was cut short is continued by the same command.
`--table FILES...` writes bench/results/collective.md from such files.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.collective import table
from bench.collective.arms import ARMS, SIZES, Job, plan
from bench.collective.play import play
from bench.machine import end_with_parent


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.collective", description=__doc__)
    p.add_argument("--model", choices=sorted(SIZES), default="tiny")
    p.add_argument("--device", help="such as cuda or cpu; left out: the best there is")
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--rounds", type=int, help="in place of the model's usual number")
    p.add_argument("--measure-every", type=int, help="rounds between two points of the curve; 25 points if left out")
    p.add_argument("--peers", type=int, nargs="*", help="only runs with so many peers")
    p.add_argument(
        "--best-rates", action="store_true", help="only the rate at which an arm was best in the file so far"
    )
    p.add_argument("--arms", nargs="*", choices=sorted(ARMS), help="only these")
    p.add_argument("--jobs", type=int, default=1, help="runs at the same time, one process each")
    p.add_argument("--minutes", type=float, default=1e4, help="what is not done by then is not run")
    p.add_argument("--out", type=Path, help="JSON lines, appended; default bench/results/collective-MODEL.jsonl")
    p.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="only write the table from these files")
    options = p.parse_args()
    if options.table:
        print(table.write(options.table))
        return 0
    out = options.out or table.RESULT.with_name(f"collective-{options.model}.jsonl")
    deadline = time.time() + 60 * options.minutes
    wanted = options.arms or ARMS
    jobs = [job for job in plan(options.model, options.seeds, options.rounds) if job.arm in wanted]
    jobs = [job for job in jobs if options.peers is None or job.peers in options.peers]
    results = table.read([out]) if out.exists() else []
    if options.best_rates:
        best = table.best_rates(results)
        jobs = [job for job in jobs if best.get((job.model, job.rounds, job.arm, job.peers)) == job.learning_rate]
    done = [_key(result) for result in results]
    left = [job for job in jobs if job.key() not in done]
    print(f"{len(left)} of {len(jobs)} runs to do, {options.jobs} at a time, into {out}", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # as many processes as cores
    failed = 0
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), initializer=end_with_parent) as pool:
        futures = {pool.submit(play, job, options.device, deadline, options.measure_every): job for job in left}
        for future in as_completed(futures):
            if error := future.exception():
                print(f"{futures[future]} failed: {error!r}", file=sys.stderr, flush=True)
                failed += 1
                continue
            result = future.result()
            if result is None:
                continue
            with out.open("a") as lines:
                lines.write(json.dumps(result, separators=(",", ":")) + "\n")
            print(
                f"{result['arm']}, {result['peers']} peers, {result['learning_rate']:g}, seed {result['seed']}: "
                f"{result['final'] if result['complete'] else 'cut short'} after {result['wall_s']} s",
                flush=True,
            )
    return 1 if failed else 0


def _key(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in Job.__dataclass_fields__} if result["complete"] else {}


if __name__ == "__main__":
    sys.exit(main())
