"""python -m bench.first_swarm: a local swarm on the arithmetic recipe, written to bench/results/first-swarm.md.

It runs exactly the command that the result names. The rounds' seeds come from a new chain each time, so two runs
differ; the spread over the peers is in the table. `--of FOLDER` makes the table of a run that is over, from the
`events.jsonl` (what `--plain` printed) and `summary.json` in it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from bench.machine import describe

RESULT = Path(__file__).parent / "results" / "first-swarm.md"


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.first_swarm", description=__doc__)
    p.add_argument("--peers", type=int, default=3)
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--recipe", default="recipes/arithmetic.yaml")
    p.add_argument("--twin", help="as for swarm.join; 1 lets the twins keep up, and adds a column")
    p.add_argument("--heldout", type=int, metavar="N", help="questions, in place of the recipe's number")
    p.add_argument("--of", type=Path, metavar="FOLDER")
    p.add_argument("--command", default="", help="what was run, with --of")
    p.add_argument("--note", default="", help="what else is to be known of that run")
    p.add_argument("--out", type=Path, default=RESULT)
    options = p.parse_args()
    if options.of:
        return write(options.of / "events.jsonl", options.of / "summary.json", options)
    with tempfile.TemporaryDirectory() as folder:
        events, summary = Path(folder) / "events.jsonl", Path(folder) / "s.json"
        command = ["-m", "swarm.join", "--peers", str(options.peers), "--rounds", str(options.rounds)]
        recipe = options.recipe
        if options.heldout:
            recipe = str(_with_heldout(Path(recipe), options.heldout, Path(folder)))
        command += ["--recipe", recipe, *(["--twin", options.twin] if options.twin else []), "--plain"]
        command += ["--summary", str(summary)]
        print(f"running python {' '.join(command)}; about a minute a round on 2 cores", flush=True)
        with events.open("wb") as out:
            status = subprocess.run(
                [sys.executable, *command, "--home", f"{folder}/home"], stdout=out, check=False
            ).returncode
        if status != 0:
            print(f"the swarm ended with status {status}", file=sys.stderr)
            return status
        shown = " ".join(["python", *command[:-1], "s.json"])
        options.command = shown.replace(recipe, options.recipe)
        if options.heldout:
            options.note += f"heldout.count in the recipe set to {options.heldout}"
        return write(events, summary, options)


def _with_heldout(recipe: Path, count: int, folder: Path) -> Path:
    """A copy of the recipe with so many held-out questions."""
    settings = yaml.safe_load(recipe.read_text())
    settings["heldout"]["count"] = count
    copy = folder / recipe.name
    copy.write_text(yaml.safe_dump(settings))
    return copy


def write(events: Path, summary: Path, options: argparse.Namespace) -> int:
    """Make the result of what a run printed and summarised."""
    said = [json.loads(line) for line in events.read_text().splitlines() if line.startswith("{")]
    rounds = [event for event in said if event["event"] == "round_done"]
    text = report(json.loads(summary.read_text()), rounds, options.command, options.note)
    options.out.write_text(text)
    print(text)
    print(f"written to {options.out}")
    return 0


def report(summary: dict[str, Any], rounds: list[dict[str, Any]], command: str, note: str) -> str:
    """The result as Markdown."""
    peers = summary["peers"]
    gains = [peer["heldout"]["after"] - peer["heldout"]["before"] for peer in peers]
    lines = [
        f"# A swarm: {len(peers)} peers, {summary['rounds']} rounds, {peers[0]['model']}",
        "",
        f"`{command}`",
        "",
        describe().rstrip(),
        f"- model: {peers[0]['model']} on {peers[0]['device']}; seeds: {len(peers)} peers sample independently, round",
        "  seeds from a new chain",
        f"- {summary['seconds']:.0f} s in all, {summary['chain']['registered_peers']} peers registered on the chain",
        *([f"- {note}"] if note else []),
        "",
        "| peer | held-out before | after | reward, first 3 rounds | last 3 | published | fetched | critiques "
        "| revisions | verdicts | updates | tok/s | beside its twin alone |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for peer in peers:
        heldout = peer["heldout"]
        lines.append(
            f"| {peer['name']} | {heldout['before']:.2f} | **{heldout['after']:.2f}** "
            f"| {statistics.mean(peer['reward'][:3]):.2f} | {statistics.mean(peer['reward'][-3:]):.2f} "
            f"| {peer['rollouts_published']} | {peer['rollouts_fetched']} | {peer['critiques']} | {peer['revisions']} "
            f"| {peer['verdicts']} | {peer['updates']} | {peer['tokens_per_s']:.0f} | {_beside_twin(peer['twin'])} |"
        )
    lines += [
        "",
        f"Held-out accuracy ({peers[0]['heldout']['n']} questions that no round trains on, greedy): "
        f"mean gain {statistics.mean(gains):+.2f}, least {min(gains):+.2f}, most {max(gains):+.2f}.",
        "",
        "Mean over the peers, by round:",
        "",
        "| round | answer | critique | revise | groups trained | of them fetched | seconds at work | waiting |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for ordinal in range(1, summary["rounds"] + 1):
        here = [event for event in rounds if event["ordinal"] == ordinal]
        stages = [_mean(event["rewards"].get(stage) for event in here) for stage in ("answer", "critique", "revise")]
        work = _mean(sum(value for key, value in event["seconds"].items() if key != "wait") for event in here)
        lines.append(
            f"| {ordinal} | {' | '.join(stages)} | {_mean(e['groups_trained'] for e in here)} "
            f"| {_mean(e['groups_fetched'] for e in here)} | {work} | {_mean(e['seconds'].get('wait') for e in here)} |"
        )
    return "\n".join(lines) + "\n"


def _beside_twin(told: dict[str, Any] | None) -> str:
    if told is None:
        return "not yet"
    return f"{told['gain']:+.2f} ({told['low']:+.2f} to {told['high']:+.2f}) after {told['rounds']} rounds"


def _mean(values: Any) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.2f}" if known else "-"


if __name__ == "__main__":
    sys.exit(main())
