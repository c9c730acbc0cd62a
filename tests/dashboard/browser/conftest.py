"""A browser, a swarm on disk, and a dashboard over it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dashboard.browser import chromium
from tests.dashboard.browser.serving import Serving
from tests.dashboard.browser.swarm import SmallSwarm

HERE = Path(__file__).parent
INSTALL_S = 240


@pytest.fixture(scope="module")
def browser():
    """Ends with the module: while Playwright runs, nothing else in this thread can run an event loop."""
    why = chromium.missing()
    if why:
        pytest.skip(why)
    with chromium.launched() as running:
        yield running


@pytest.fixture(scope="module")
def swarm(tmp_path_factory):
    small = SmallSwarm(tmp_path_factory.mktemp("swarm"))
    for _ in range(3):
        small.play()
    yield small
    small.close()


@pytest.fixture(scope="module")
def dashboard(browser, swarm):
    serving = Serving(swarm.folder)
    serving.start()
    yield serving
    serving.stop()


@pytest.fixture
def visit(browser, dashboard):
    """Opens a page of the dashboard; in the end it must have run without a complaint of the browser."""
    contexts, complaints = [], []

    def open_page(path="/", *, url=None, tolerant=False, **context):
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.set_default_timeout(chromium.DEADLINE_MS)
        if not tolerant:
            page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{url or dashboard.url}#{path}")
        page.wait_for_selector("h1")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, installed with npm on first use."""
    source = HERE / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        if shutil.which("npm") is None:
            pytest.skip("axe-core is installed with npm, and there is none on this machine")
        subprocess.run(
            ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=HERE,
            check=True,
            capture_output=True,
            timeout=INSTALL_S,
        )
    return source.read_text()
