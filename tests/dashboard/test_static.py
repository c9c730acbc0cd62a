"""What the page's files promise, without a browser."""

import re
from pathlib import Path

import swarm.dashboard
from swarm.dashboard.definitions import DEFINITIONS

STATIC = Path(swarm.dashboard.__file__).parent / "static"
OWN = [path for path in STATIC.rglob("*.*") if "vendor" not in path.parts]
UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\beval\(|new Function|"
    r"setAttribute\(\"style\"|javascript:"
)


def test_text_is_never_made_into_markup():
    for path in OWN:
        assert not UNSAFE.search(path.read_text()), path


def test_nothing_comes_from_elsewhere():
    for path in OWN:
        links = [link for link in re.findall(r"https?://[^\"'\s)]+", path.read_text()) if "www.w3.org" not in link]
        assert links == [], path


def test_every_word_with_a_definition_is_defined():
    used = {
        key
        for path in STATIC.rglob("*.js")
        for key in re.findall(r"(?:\bterm\(|\bstat\(|\bchart\(|\bterm: )\"(\w+)\"", path.read_text())
    }
    assert used and used <= set(DEFINITIONS), used - set(DEFINITIONS)
