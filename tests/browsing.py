"""A real browser for tests: a headless Chromium of this machine, driven by playwright, that reaches no network."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LACKING = (
    "no Chromium on this machine (apt install chromium)"
    if not CHROMIUM
    else "playwright or axe is not installed (pip install 'psdbench[test]')"
    if not importlib.util.find_spec("axe_playwright_python")
    else ""
)
needs_browser = pytest.mark.skipif(bool(LACKING), reason=LACKING)
SERIOUS = ("moderate", "serious", "critical")
FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
PATIENCE = 300_000
"""milliseconds: what a busy machine may need"""


class Tab:
    """An open page with what it has said and asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path) -> Tab:
        """Open a file of the disk."""
        self.page.goto(path.as_uri())
        return self

    def until(self, condition: str) -> None:
        """Wait until an expression is true; playwright's own way evaluates in the page, which its policy bars."""
        end = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(50)

    def findings(self, scheme: str) -> list[str]:
        """What axe-core holds against the page, light or dark, that people are seriously hindered by."""
        from axe_playwright_python.sync_playwright import Axe

        self.page.emulate_media(color_scheme=scheme)
        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {node['html']}"
            for each in found
            if each["impact"] in SERIOUS
            for node in each["nodes"]
        ]

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements, in their order."""
        return self.page.locator(selector).all_inner_texts()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that reaches no network."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=PATIENCE)
        yield running
        running.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Tab]:
    """A new tab."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    yield Tab(context.new_page())
    context.close()
