"""make screenshots: every page of the dashboard over a home, as docs/images/*.png."""

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.dashboard.browser import chromium
from tests.dashboard.browser.serving import Serving

IMAGES = Path(__file__).parents[3] / "docs" / "images"
SETTLED_MS = 1500
"""For charts to be drawn and the chain to be asked."""
ASK_S = 30
DESK = {"viewport": {"width": 1280, "height": 860}, "device_scale_factor": 1}
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2}


def main(home: Path) -> int:
    why = chromium.missing()
    if why:
        print(f"screenshots: {why}", file=sys.stderr)
        return 2
    serving = Serving(home)
    serving.start()
    try:
        _take_all(serving.url)
    finally:
        serving.stop()
    return 0


def _take_all(url: str) -> None:
    best = _first_peer(url)
    last = _ask(url, "rounds?limit=1")["rows"][0]["number"]
    IMAGES.mkdir(parents=True, exist_ok=True)
    pages = {
        "now": "/",
        "leaderboard": "/leaderboard",
        "peer": f"/peers/{best}",
        "rounds": "/rounds",
        "round": f"/rounds/{last}",
        "learning": "/learning",
        "trust": "/trust",
    }
    with chromium.launched() as browser:
        for name, path in pages.items():
            _take(browser, f"{url}#{path}", name, full_page=True, **DESK)
        _take(browser, f"{url}#/", "now-dark", full_page=True, color_scheme="dark", **DESK)
        _take(browser, f"{url}#/leaderboard", "leaderboard-phone", full_page=False, **PHONE)


def _take(browser: Any, url: str, name: str, *, full_page: bool, **context: Any) -> None:
    page = browser.new_context(**context).new_page()
    page.goto(url)
    page.wait_for_selector("h1")
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=IMAGES / f"{name}.png", full_page=full_page)
    page.context.close()
    print(f"docs/images/{name}.png")


def _first_peer(url: str) -> str:
    """The best peer's id, as soon as the journals have been read."""
    until = time.monotonic() + ASK_S
    while time.monotonic() < until:
        if rows := _ask(url, "leaderboard")["rows"]:
            return rows[0]["peer_id"]
        time.sleep(0.2)
    raise SystemExit("screenshots: the journals there name no peer; open the dashboard to see why")


def _ask(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}api/{path}", timeout=ASK_S) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
