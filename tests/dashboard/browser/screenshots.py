"""make screenshots: every page of the dashboard over a home, as docs/images/*.png: light, dark and on a phone."""

import io
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

from tests.dashboard.browser import chromium
from tests.dashboard.browser.serving import Serving

IMAGES = Path(__file__).parents[3] / "docs" / "images"
SETTLED_MS = 1500
"""For charts to be drawn and the chain to be asked."""
ASK_S = 30
DESK = {"viewport": {"width": 1280, "height": 860}, "device_scale_factor": 1}
KINDS = {
    "": DESK,
    "-dark": {**DESK, "color_scheme": "dark"},
    "-phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
}
COLOURS = 128
"""Few enough that no picture exceeds 200 kB, and more than the page has but for smoothed edges."""
MAX_HEIGHT = 2400
"""Pixels; what is below on a long page is left out."""


def main(home: Path) -> int:
    why = chromium.missing()
    if why:
        print(f"screenshots: {why}", file=sys.stderr)
        return 2
    serving = Serving(home, "--public")  # which names no folder of this machine
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
        for kind, context in KINDS.items():
            for name, path in pages.items():
                _take(browser, f"{url}#{path}", name + kind, context, full_page=kind != "-phone")


def _take(browser: Any, url: str, name: str, context: dict[str, Any], *, full_page: bool) -> None:
    page = browser.new_context(**context).new_page()
    page.goto(url)
    page.wait_for_selector("h1")
    page.wait_for_timeout(SETTLED_MS)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=full_page)))
    page.context.close()
    picture = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, MAX_HEIGHT)))
    file = IMAGES / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"docs/images/{name}.png  {file.stat().st_size // 1000} kB")


def _first_peer(url: str) -> str:
    """The best peer's id, as soon as the journals have been read and the chain has answered, or is known to be away."""
    until = time.monotonic() + ASK_S
    while time.monotonic() < until:
        status, rows = _ask(url, "status"), _ask(url, "leaderboard")["rows"]
        asked = status["chain"]["registered_peers"] is not None or any(it["part"] == "chain" for it in status["stale"])
        if rows and asked and not status["reading"]:
            return rows[0]["peer_id"]
        time.sleep(0.2)
    raise SystemExit("screenshots: the journals there name no peer; open the dashboard to see why")


def _ask(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}api/{path}", timeout=ASK_S) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
