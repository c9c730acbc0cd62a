"""The live display: a pure function of events, and harmless whatever peers are called."""

import io
import json
import time
from pathlib import Path

from rich.console import Console

from swarm.dashboard.terminal import Display, View, draw, main, outcome, plain_text

HEADER = {"at": 1000.0, "peer": "swift-otter"}
EVENTS = [
    {"event": "identity", "peer_id": "p", "address": "0x1", "home": "/tmp/h"},
    {"event": "swarm", "swarm": "7:0xabc", "founded": True, "rpc": "http://x"},
    {"event": "model", "model": "tiny", "device": "CPU"},
    {"event": "invite", "invite": "swarm:abc"},
    {"event": "peers", "peers": {"q": {"name": "calm-fox", "model": "m", "device": "GPU"}}, "other_versions": []},
    {"event": "heldout", "ordinal": 0, "correct": 16, "of": 64},
    {"event": "round", "round": 30, "ordinal": 3, "of": 10, "ends": 1200, "seed_from_chain": True},
    {"event": "stage", "round": 30, "ordinal": 3, "stage": "critique", "until": 1042.0},
]
DONE = {
    "event": "round_done", "ordinal": 3, "rewards": {"answer": 0.5, "critique": 0.9}, "partners": 1, "points": 2.5,
    "generated_tokens": 100, "seconds": {"answer": 1.0, "wait": 3.0}, "why_nothing": "no answer was right",
}  # fmt: skip


def shown(events, now=1010.0):
    view = View()
    for event in events:
        view.take({**HEADER, **event})
    console = Console(file=io.StringIO(), width=140, force_terminal=False)
    console.print(draw(view, now))
    return console.file.getvalue()


def test_it_shows_what_happens():
    text = shown(EVENTS)
    for piece in (
        "swift-otter",
        "3/10",
        "critique",
        "32 s",
        "25%",
        "7:0xabc",
        "also here: calm-fox (GPU)",
    ):
        assert piece in text


def test_a_start_says_what_takes_time_before_the_peer_has_a_name():
    text = shown([{"event": "starting", "what": "loading", "expect_s": 10, "peer": ""}])
    clock = time.strftime("%H:%M:%S", time.localtime(HEADER["at"]))
    assert f"{clock} loading (about 10 s)" in text


def test_the_invite_can_be_copied():
    invite = "swarm:" + "x" * 300
    console = Console(file=io.StringIO(), width=80)
    with Display(console) as display:
        display({**HEADER, "event": "invite", "invite": invite})
        display({**HEADER, "event": "invite", "invite": "swarm:another"})
    text = console.file.getvalue()
    assert f"python -m swarm.join '{invite}'\n" in text and "another" not in text


def test_it_says_why_a_round_taught_nothing():
    text = shown([*EVENTS, DONE])
    assert "round 3 taught nothing: no answer was right" in text
    assert "0.50" in text and "0.90" in text and "100" in text


def test_what_the_twin_says_comes_before_what_the_merges_say():
    by_merge = {"gain": 0.01, "low": -0.01, "high": 0.03, "rounds": 6, "method": "m"}
    beside_twin = {"gain": 0.12, "low": 0.04, "high": 0.2, "rounds": 5, "method": "t"}
    done = {**DONE, "help": by_merge}
    assert "+1.0% ±2.0%" in shown([*EVENTS, done])
    said = shown([*EVENTS, done, {"event": "twin", "rounds": 5, "help": beside_twin}, done])
    assert "+1.0%" not in said and "after 5 rounds +12.0% ±8.0% beside its twin" in said
    assert "beside its twin" not in shown([*EVENTS, done, {"event": "twin", "rounds": 5, "help": None}])


def test_heldout_at_start_and_now():
    text = shown([*EVENTS, {"event": "heldout", "ordinal": 5, "correct": 48, "of": 64}])
    assert "25% \u2192 75%" in text


def test_unknown_events_change_nothing():
    assert shown(EVENTS) == shown([*EVENTS, {"event": "something_new", "x": 1}])


def test_hostile_names_are_only_text():
    evil = "\x1b[31mred\u202e\u200b<script>[bold]x[/bold]\n\n"
    peers = {"q": {"name": evil, "model": evil, "device": evil}}
    text = shown([*EVENTS, {"event": "peers", "peers": peers, "other_versions": []}])
    assert not set(text) & {"\x1b", "\u202e", "\u200b"}
    assert "<script>" in text and "[bold]" in text
    assert plain_text("x" * 1000, 40) == "x" * 40


def test_every_event_is_documented():
    root = Path(__file__).parents[2]
    documented = (root / "docs" / "events.md").read_text()
    handled = [name[1:] for name in vars(View) if name.startswith("_") and not name.startswith("__")]
    for kind in set(handled) - {"peer", "say"}:
        assert f"`{kind}`" in documented, kind


def test_the_outcome_is_printed_at_the_end():
    peer = {
        "name": "swift-otter", "heldout": {"before": 0.2, "after": 0.8, "n": 64}, "reward": [0.1, None, 0.7],
        "rollouts_published": 5, "rollouts_fetched": 6, "updates": 3, "points": 9.0,
    }  # fmt: skip
    summary = {"rounds": 3, "seconds": 12.0, "peers": [peer]}
    console = Console(file=io.StringIO(), width=140)
    with Display(console) as display:
        display({**HEADER, "event": "finished", "summary": summary})
    text = console.file.getvalue()
    assert "after 3 rounds, 12 s" in text and "20%" in text and "80%" in text
    console.print(outcome(json.loads(json.dumps({**summary, "peers": [{**peer, "heldout": None, "reward": []}]}))))


def test_a_file_that_is_no_summary(tmp_path, capsys):
    path = tmp_path / "s.json"
    for text in ("", "{}", "[]", '{"peers": 5}'):
        path.write_text(text)
        assert main([str(path)]) == 2
        assert "is not a summary" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json")]) == 2
