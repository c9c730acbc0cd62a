"""The page as a visitor sees it, over a real swarm's journals."""

import re
import shutil
import sqlite3

import pytest
from playwright.sync_api import expect

from tests.dashboard.browser.serving import Serving
from tests.dashboard.browser.swarm import NAMES

PHONE = {"width": 360, "height": 740}


def pages(swarm):
    return ("/", "/leaderboard", f"/peers/{swarm.peers[0]}", "/rounds", "/rounds/1", "/learning", "/trust")


def rows(page):
    return page.locator("tbody tr")


def test_a_new_round_appears_by_itself(visit, swarm):
    page = visit("/")
    expect(page.locator(".round h2")).to_contain_text(f"Round {swarm.ordinal}")
    done = swarm.play()
    expect(page.locator(".round h2")).to_contain_text(f"Round {done}")
    expect(page.locator("#connection")).to_have_text("live")


def test_without_server_sent_events_it_asks_again(visit, swarm):
    page = visit("/rounds", tolerant=True)
    page.route("**/api/changes", lambda route: route.abort())
    page.reload()
    expect(rows(page)).to_have_count(swarm.ordinal)
    done = swarm.play()
    expect(rows(page)).to_have_count(done)


def test_sorting_goes_both_ways_and_is_in_the_address(visit):
    page = visit("/leaderboard")
    heading = page.get_by_role("columnheader", name="Points")
    points = page.locator("td[data-label=Points] b")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    falling = points.all_inner_texts()
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert points.all_inner_texts() == falling[::-1]
    assert [float(text) for text in falling] == sorted(map(float, falling), reverse=True)
    page.reload()
    expect(page.get_by_role("columnheader", name="Points")).to_have_attribute("aria-sort", "ascending")


def test_search_and_filter_narrow_the_leaderboard(visit):
    page = visit("/leaderboard")
    expect(rows(page)).to_have_count(3)
    page.keyboard.press("/")
    page.keyboard.type("TROUT")
    expect(rows(page)).to_have_count(1)
    expect(page.get_by_text("1 of 3 peers.")).to_be_visible()
    page.get_by_label("Search").fill("nobody has this name")
    expect(page.get_by_text("No peer matches this search.")).to_be_visible()
    page.get_by_label("Search").fill("")
    page.get_by_label("Device").select_option("NVIDIA H100")
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text(NAMES[1])


def test_a_row_opens_the_peers_page(visit, swarm):
    page = visit("/leaderboard")
    page.get_by_role("link", name=NAMES[0]).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(NAMES[0])
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_text(swarm.peers[0], exact=True)).to_be_visible()
    expect(page.locator("line-chart canvas").first).to_be_visible()
    for part in ("Calibration as a judge", "Rounds", "Records"):
        expect(page.get_by_role("heading", name=part, exact=True)).to_be_visible()


def test_an_unknown_peer_is_told_in_a_sentence(visit):
    page = visit("/peers/nobody", tolerant=True)
    expect(page.get_by_role("heading", level=1)).to_have_text("That is not here")
    page = visit("/no/such/page")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")


def test_a_round_shows_answers_critiques_verdicts_and_revisions(visit):
    page = visit("/rounds")
    page.get_by_role("link", name="1", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Round 1")
    expect(page.locator(".critique").first).to_be_visible()
    expect(page.locator(".critique .verdict").first).to_be_visible()
    expect(page.get_by_text("The verifier's truth")).to_be_visible()
    chosen = page.locator(".choices button").nth(3)
    chosen.click()
    expect(chosen).to_have_attribute("aria-pressed", "true")
    assert "task=" in page.url


def test_dark_and_light_follow_the_system_and_the_button(visit):
    page = visit("/", color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    button = page.locator("#theme")
    button.click()
    expect(button).to_have_text(re.compile("Light"))
    light = page.evaluate(ground)
    assert brightness(dark) < 60 < 200 < brightness(light)
    page.reload()
    page.wait_for_selector("h1")
    assert page.evaluate(ground) == light
    button.click()
    assert page.evaluate(ground) == dark


def brightness(colour):
    return max(int(value) for value in re.findall(r"\d+", colour)[:3])


def test_nothing_scrolls_sideways_on_a_phone(visit, swarm):
    for path in pages(swarm):
        page = visit(path, viewport=PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], path


def test_a_hostile_answer_is_harmless(visit, swarm):
    page = visit("/rounds/1?task=shared:0")
    answers = page.locator(".author").filter(has_text="<b>eve</b>").locator(".answer")
    shown = answers.first.inner_text()
    assert "<script>window.pwned = 1</script>" in shown
    assert "⟨U+202E⟩rtl⟨U+202C⟩" in shown
    assert "zero⟨U+200B⟩width" in shown
    assert "␛[31mred" in shown
    assert not set("\u202e\u202c\u200b\x1b") & set(page.inner_text("body"))
    assert page.locator("main script, main img").count() == 0
    folded = answers.nth(1).locator("details")
    assert len(answers.nth(1).inner_text()) < 300
    folded.locator("summary").click()
    expect(folded.locator(".long")).to_contain_text("x" * 30_000)
    for path in ("/", "/leaderboard", f"/peers/{swarm.peers[-1]}"):
        page.goto(page.url.split("#")[0] + "#" + path)
        expect(page.get_by_text("<b>eve</b> ⟨U+202E⟩evil").first).to_be_attached()
    assert page.evaluate("window.pwned") is None


def test_words_are_defined_on_hover_and_focus(visit):
    page = visit("/leaderboard")
    tip = page.locator("#tip")
    word = page.get_by_role("columnheader", name="Informedness").get_by_role("button")
    word.hover()
    expect(tip).to_contain_text("true positive rate")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    word.focus()
    expect(tip).to_be_visible()
    described = page.evaluate(
        "document.getElementById(document.activeElement.getAttribute('aria-describedby')).textContent"
    )
    assert "true positive rate" in described


def test_the_keyboard_reaches_the_content(visit):
    page = visit("/leaderboard")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()


def test_axe_finds_nothing(visit, swarm, axe):
    told = []
    for scheme in ("light", "dark"):
        for path in pages(swarm):
            page = visit(path, color_scheme=scheme)
            for found in page.evaluate(f"{axe}; axe.run()")["violations"]:
                told.append((path, scheme, found["id"], found["help"], found["nodes"][0]["html"][:200]))
    assert told == []


@pytest.fixture
def own(tmp_path, swarm, browser):
    """A dashboard over a copy, for tests that break it. They name it before `visit`, so that it outlives the pages."""
    home = tmp_path / "copy"
    for journal in swarm.journals:
        target = home / journal.path.parent.name
        target.mkdir(parents=True)
        with sqlite3.connect(journal.path) as source, sqlite3.connect(target / journal.path.name) as copy:
            source.backup(copy)
    serving = Serving(home)
    serving.start()
    yield serving
    serving.stop()


def test_the_server_dies_and_comes_back(own, visit):
    page = visit("/leaderboard", url=own.url, tolerant=True)
    expect(rows(page)).to_have_count(3)
    own.stop()
    expect(page.locator("#connection")).to_have_text("not connected")
    expect(page.locator(".notice")).to_contain_text("What you see may be old")
    expect(rows(page)).to_have_count(3)
    own.start()
    expect(page.locator(".notice")).to_have_count(0)
    expect(page.locator("#connection")).not_to_have_text("not connected")


def test_a_damaged_journal_is_told_and_the_rest_goes_on(own, visit):
    page = visit("/leaderboard", url=own.url)
    expect(rows(page)).to_have_count(3)
    damaged = own.home / "peer-2" / "journal.sqlite"
    shutil.copy(damaged, damaged.with_suffix(".away"))
    damaged.with_suffix(".new").write_bytes(b"no database" * 1000)
    damaged.with_suffix(".new").replace(damaged)
    expect(page.locator(".notice").first).to_contain_text("peer-2")
    expect(rows(page)).to_have_count(3)


def test_a_chain_that_is_away_is_told(own, visit):
    with sqlite3.connect(own.home / "peer-1" / "journal.sqlite") as database:
        database.execute("INSERT INTO meta VALUES ('rpc', 'http://127.0.0.1:9')")
    page = visit("/trust", url=own.url)
    expect(page.locator(".notice")).to_contain_text("chain")
    expect(page.get_by_text("The chain has not been read")).to_be_visible()


def test_a_public_chains_explorer_is_linked(own, visit, swarm):
    with sqlite3.connect(own.home / "peer-1" / "journal.sqlite") as database:
        database.execute("INSERT INTO meta VALUES ('rpc', 'http://127.0.0.1:9')")
    page = visit(f"/peers/{swarm.peers[0]}", url=own.url)
    link = page.get_by_role("link", name="explorer").first
    expect(link).to_have_attribute("href", re.compile("https://etherscan.io/address/0x"))
    expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    command = page.get_by_text("python -m swarm registered --peer")
    expect(command).to_contain_text(f"{swarm.peers[0]} --home {own.home / 'peer-1'}")
