"""A swarm of three that trains, watched in a browser over the dashboard of its home."""

import re

import pytest

from tests.dashboard.browser import chromium
from tests.dashboard.browser.serving import Serving
from tests.swarm.processes import PeerProcess

ROUND_MS = 60_000


def test_the_page_follows_a_swarm_that_trains(tmp_path):
    why = chromium.missing()
    if why:
        pytest.skip(why)
    from playwright.sync_api import expect

    home = tmp_path / "home"
    with PeerProcess("--recipe", "tiny", "--peers", 3, "--home", home) as swarm, chromium.launched() as browser:
        first = swarm.wait_for("round_done", 150)["ordinal"]
        serving = Serving(home)
        serving.start()
        try:
            page = browser.new_page()
            complaints = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(serving.url)
            heading = page.locator(".round h2")
            expect(page.locator("#connection")).to_have_text("live", timeout=ROUND_MS)
            expect(heading).to_contain_text(re.compile(rf"Round {first + 1}\b|Round {first + 2}\b"), timeout=ROUND_MS)
            seen = int(re.search(r"\d+", heading.inner_text()).group())
            expect(heading).to_contain_text(
                re.compile(rf"Round ({seen + 1}|{seen + 2}|{seen + 3})\b"), timeout=ROUND_MS
            )
            page.get_by_role("link", name="Leaderboard", exact=True).click()
            expect(page.locator("tbody tr")).to_have_count(3, timeout=ROUND_MS)
            page.get_by_role("link", name="Rounds", exact=True).click()
            page.get_by_role("link", name="1", exact=True).click()
            expect(page.locator(".critique .verdict").first).to_be_visible(timeout=ROUND_MS)
            assert complaints == []
        finally:
            serving.stop()
