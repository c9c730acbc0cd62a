"""A round in a file: what holds is said to hold, and each falsehood is found."""

import json
from collections import Counter
from dataclasses import asdict

import pytest

from swarm.errors import SwarmError
from swarm.journal.journal import Journal
from swarm.round import assigned
from swarm.verify.command import main, verify
from swarm.verify.document import from_base64, in_base64
from swarm.verify.export import export
from swarm.verify.export import main as export_main
from tests.round.conftest import SEED, make_bench


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The home of one of three peers after a round whose starting weights everybody has."""
    bench = make_bench(3, published=True)
    me, outcome = next(iter(bench.play().items()))
    folder = tmp_path_factory.mktemp("home")
    journal = Journal(folder / "journal.sqlite")
    for key, value in (("chain_id", "1"), ("contract", "0xswarm"), ("peer_id", me)):
        journal.put(key, value)
    journal.put("recipe", bench.recipe.canonical().decode())
    journal.commit_round(
        0, 1, started=0.0, finished=1.0, seed=SEED, checkpoint="1",
        report=asdict(outcome.report), records=outcome.records, audits=outcome.audits,
    )  # fmt: skip
    assigned.keep(journal, outcome.drawn)
    journal.close()
    return folder


@pytest.fixture
def file(home, tmp_path):
    path = tmp_path / "round.json"
    assert export_main(["--home", str(home), "--out", str(path)]) == 0
    return path


def states(checks):
    return {check.what.split(": ")[-1] if ":" in check.what else check.what: check.state for check in checks}


def falsify(path, change):
    """The failing checks of the file after a change of its JSON."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return [check for check in verify(path) if check.state == "fails"]


def test_an_honest_round_holds(file, capsys):
    found = verify(file, weights=True)
    counts = Counter(check.state for check in found)
    assert counts["fails"] == 0 and counts["unknown"] == 1, "only the chain was not asked"
    replayed = [check for check in found if check.what.endswith("replay")]
    assert len(replayed) == 9 and all("0 of them not where" in check.why for check in replayed)
    assert main([str(file)]) == 0
    assert "0 fail" in capsys.readouterr().out


def test_one_peers_rollouts_alone(home, tmp_path):
    author = json.loads(export(home, 0).model_dump_json())["records"][0]["author"]
    path = tmp_path / "one.json"
    path.write_text(export(home, 0, author).model_dump_json())
    found = states(verify(path, weights=True))
    assert found["replay"] in ("holds", "unknown") and "fails" not in found.values()


def test_false_points(file):
    [failed] = falsify(file, lambda data: data["claim"].update(points=data["claim"]["points"] + 0.01))
    assert failed.what == "rewards and points"


def test_another_record_than_the_announced(file):
    def change(data):
        one, other = data["records"][0], data["records"][1]
        one["body"] = other["body"]

    assert any("committed to" in check.why for check in falsify(file, change))


def test_a_signature_of_somebody_else(file):
    def change(data):
        raw = bytearray(from_base64(data["records"][0]["announcement"]))
        raw[-20] ^= 1
        data["records"][0]["announcement"] = in_base64(bytes(raw))

    assert any(check.why == "bad signature" for check in falsify(file, change))


def test_judges_who_were_not_drawn(file):
    def change(data):
        data["owners"] = {record["author"]: "0x" + "11" * 20 for record in data["records"]}

    failed = falsify(file, change)
    assert sum("not its to judge" in check.why for check in failed) == 3, "peers of one owner do not judge each other"


def test_another_seed_gives_other_tasks_and_judges(file):
    failed = falsify(file, lambda data: data.update(seed="ab" * 32))
    assert any("judge" in check.why for check in failed) and main([str(file)]) == 1


def test_what_is_no_round_is_said_in_one_sentence(file, home, tmp_path, capsys):
    file.write_text('{"format": "swarm round 1"}')
    assert main([str(file)]) == 2 and "is no round that" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json")]) == 2
    with pytest.raises(SwarmError, match="has no round 7"):
        export(home, 7)
    with pytest.raises(SwarmError, match="no peer's home"):
        export(tmp_path, None)
