"""swarm export: write a round of a home into a file that `swarm verify` checks."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from swarm.errors import SwarmError
from swarm.journal.journal import Journal
from swarm.judging.calibration import WINDOW
from swarm.recipe.load import parse_recipe
from swarm.round import assigned
from swarm.round.evidence import spent_by
from swarm.round.records import decode_openings
from swarm.verify.document import Claim, ExportedRecord, RoundFile, in_base64


def export(home: Path, number: int | None, author: str | None = None) -> RoundFile:
    """A round as a home has it; `number` None for the newest, `author` to leave out the records of all others.

    Raises:
        SwarmError: the home is none, or has no such round, or nothing of that author.
    """
    file = home.expanduser() / "journal.sqlite"
    if not file.is_file():
        raise SwarmError(f"{home} is no peer's home: it has no journal; name one with --home")
    journal = Journal(file)
    try:
        reports = {report["number"]: report for report in journal.reports()}
        if number is None:
            number = max(reports, default=-1)
        stored, contract, chain_id = (journal.get(key) for key in ("recipe", "contract", "chain_id"))
        if number not in reports or stored is None:
            known = f"it has {len(reports)}, from {min(reports)} to {max(reports)}" if reports else "it has none"
            raise SwarmError(f"{home} has no round {number}: {known}")
        rows = journal.records(number)
        recipe = parse_recipe(stored.encode())
        basis = assigned.read(journal.get(f"{assigned.PREFIX}{number}"))
        openings = (decode_openings(body) for body in journal.bodies("open", before=number))
        records = tuple(
            ExportedRecord(
                stage=row.stage,  # type: ignore[arg-type]
                author=row.peer_id,
                announcement=in_base64(row.announcement),
                body=in_base64(row.body if author in (None, row.peer_id) else b""),
            )
            for row in rows
        )
        if not any(record.body for record in records):
            raise SwarmError(f"{home} holds no record of {author} in round {number}")
        judges = sorted({row.peer_id for row in rows if row.stage == "critique"})
        report, me = reports[number], journal.get("peer_id")
        return RoundFile(
            swarm=f"{chain_id}:{contract}",
            round=number,
            recipe=stored,
            seed=journal.seeds(number, number)[number].hex(),
            owners=basis.owners,
            before=tuple(sorted(basis.before)),
            spent=tuple(sorted(spent_by(recipe, openings))),
            audits={judge: tuple(journal.audits_of(judge, WINDOW, before=number)) for judge in judges},
            records=records,
            claim=None if author or me is None else Claim(peer_id=me, points=report["points"], reward=report["reward"]),
        )
    finally:
        journal.close()


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="swarm export", description=__doc__)
    p.add_argument("--home", type=Path, required=True, help="a peer's folder; it may be running")
    p.add_argument("--round", type=int, metavar="N", help="the round's number (default: the newest)")
    p.add_argument("--author", metavar="PEER", help="only this peer's records, such as for its rollouts alone")
    p.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: round-N.json)")
    options = p.parse_args(arguments)
    try:
        found = export(options.home, options.round, options.author)
        out = options.out or Path(f"round-{found.round}.json")
        out.write_text(found.model_dump_json(), encoding="utf-8")
    except SwarmError as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"swarm: the round cannot be written: {error}", file=sys.stderr)
        return 2
    print(f"round {found.round} with {len(found.records)} records is in {out}; check it with: swarm verify {out}")
    return 0
