"""python -m bench.contracts: gas and coverage of the contract, as `make contracts` left them.

Written to bench/results/contracts.md. Refuses if the coverage is below what the project promises: every line, and
95% of the branches.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACTS = ROOT / "contracts"
RESULT = Path(__file__).parent / "results" / "contracts.md"
LEAST_LINES, LEAST_BRANCHES = 1.0, 0.95

ANCHOR_REGISTER, ANCHOR_REWARD, ANCHOR_WINNERS = 89_000, 176_000, 264_000
"""Gas of the anchor's registerPeer, submitReward and submitWinners, per peer and submission."""
ROUNDS_PER_EPOCH = 60

Counts = dict[str, tuple[int, int]]


def coverage(lcov: str) -> dict[str, Counts]:
    """Per source file: what was reached and what there is, of lines and branches."""
    files: dict[str, Counts] = {}
    for line in lcov.splitlines():
        tag, _, value = line.partition(":")
        if tag == "SF":
            files[Path(value).name] = counts = {}
        elif tag in ("LF", "LH", "BRF", "BRH"):
            name = "lines" if tag.startswith("L") else "branches"
            hit, found = counts.get(name, (0, 0))
            counts[name] = (int(value), found) if tag.endswith("H") else (hit, int(value))
    return files


def share(hit: int, found: int) -> float:
    return hit / found if found else 1.0


def gas_table(gas: dict[str, int]) -> str:
    rows = ["| action | gas | the anchor, same action |", "|---|---|---|"]
    anchor = {"register": f"about {ANCHOR_REGISTER:,} (the peer id is not proven)"}
    rows += [f"| {name} | {used:,} | {anchor.get(name, '-')} |" for name, used in gas.items()]
    return "\n".join(rows)


def round_table(gas: dict[str, int]) -> str:
    rows = [
        "| active peers | signatures | one epoch | per peer | per peer and round | the anchor, per peer and round |",
        "|---|---|---|---|---|---|",
    ]
    for peers in (10, 100, 1000):
        used = gas[f"postSettlement, {peers} active peers"]
        cells = (peers, 2 * peers // 3 + 1, used, used / peers, used / peers / ROUNDS_PER_EPOCH)
        rows.append(f"| {' | '.join(f'{cell:,.0f}' for cell in cells)} | {ANCHOR_REWARD + ANCHOR_WINNERS:,} |")
    return "\n".join(rows)


def coverage_table(files: dict[str, Counts]) -> str:
    rows = ["| file | lines | branches |", "|---|---|---|"]
    for name, counts in sorted(files.items()):
        cells = [f"{hit} of {found}" for hit, found in (counts[kind] for kind in ("lines", "branches"))]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> int:
    gas: dict[str, int] = {}
    for path in sorted((CONTRACTS / "snapshots").glob("*.json")):
        gas |= {name: int(used) for name, used in json.loads(path.read_text(encoding="utf-8")).items()}
    files = coverage((CONTRACTS / "lcov.info").read_text(encoding="utf-8"))
    artifact = json.loads((ROOT / "swarm/chain/artifacts/SwarmRegistry.json").read_text(encoding="utf-8"))
    package = json.loads((CONTRACTS / "package.json").read_text(encoding="utf-8"))
    versions = package["devDependencies"] | package["optionalDependencies"]
    total = {
        kind: tuple(sum(counts[kind][i] for counts in files.values()) for i in (0, 1)) for kind in ("lines", "branches")
    }
    lines, branches = share(*total["lines"]), share(*total["branches"])
    RESULT.write_text(
        f"""# What the contract costs, and what its tests reach

`make contracts`

- compiler: solc {artifact["compiler"]}, {json.dumps(artifact["settings"])}
- versions: {", ".join(f"{name} {version}" for name, version in versions.items())}, slither-analyzer 0.11.6
- gas is that of a whole transaction, calldata included; a settlement covers an epoch of {ROUNDS_PER_EPOCH} rounds

## Gas
{gas_table(gas)}

## One round with rewards
Ours is one settlement for all peers, carried by a quorum of signatures. The anchor's peers submit a reward
({ANCHOR_REWARD:,}) and their winners ({ANCHOR_WINNERS:,}) each, and nobody checks them. A claim comes on top, whenever
an owner likes, for all its rounds since the last one.

{round_table(gas)}

## Coverage
{coverage_table(files)}
| **all** | **{lines:.1%}** | **{branches:.1%}** |
""",
        encoding="utf-8",
    )
    print(
        f"[contracts] coverage: {lines:.1%} of lines, {branches:.1%} of branches; tables in {RESULT.relative_to(ROOT)}"
    )
    if lines < LEAST_LINES or branches < LEAST_BRANCHES:
        print(f"the tests must reach {LEAST_LINES:.0%} of lines and {LEAST_BRANCHES:.0%} of branches", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
