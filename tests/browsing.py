"""A real browser for tests: a headless Chromium of this machine, driven by playwright, that reaches no network."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LACKING = (
    "no Chromium on this machine (apt install chromium)"
    if not CHROMIUM
    else "playwright is not installed (pip install 'psdbench[test]')"
    if not importlib.util.find_spec("playwright")
    else ""
)
needs_browser = pytest.mark.skipif(bool(LACKING), reason=LACKING)
needs_axe = pytest.mark.skipif(
    not importlib.util.find_spec("axe_playwright_python"),
    reason="axe is not installed (pip install 'psdbench[test]')",
)
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

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements, in their order."""
        return self.page.locator(selector).all_inner_texts()


def axe_findings(browser: Any, path: Path, scheme: str) -> list[tuple[str, str]]:
    """What axe says against a page that a person might not get past: rule and element."""
    context = browser.new_context(color_scheme=scheme, offline=True, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(path.as_uri())
    page.add_script_tag(path=str(files("axe_playwright_python") / "axe.min.js"))
    found = page.evaluate("axe.run()")
    context.close()
    assert len(found["passes"]) > 20
    return [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in SERIOUS]


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
