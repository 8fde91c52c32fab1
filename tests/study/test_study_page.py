"""The page of a study in a real browser: people vote by keyboard and mouse and save what the import reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import Tab, needs_browser

from psdbench.study.export import export_study
from psdbench.study.votes import read_key, read_votes

pytestmark = needs_browser
HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)> a cube"


def begin(tab: Tab, page: Path, rater: str) -> Any:
    """Open the page and start to vote."""
    tab.open(page)
    tab.page.locator("#rater").fill(rater)
    tab.page.locator("#rater").press("Enter")
    return tab.page


def test_votes_are_cast_saved_and_read_back(tab: Tab, flat_run: Callable, tmp_path: Path) -> None:
    run = flat_run(("sds", "psd"), ("a red cube", HOSTILE), (0, 1)).run
    written, items = export_study(run, 4, "secret")
    page = begin(tab, written, "Ann O'Neill <1>")
    tab.until("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    first = page.locator("#prompt").inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#progress").inner_text() == "2 of 5"
    page.keyboard.press("Backspace")
    assert page.locator("#prompt").inner_text() == first
    page.keyboard.press("ArrowRight")
    page.get_by_text("Cannot tell", exact=False).first.click()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "votes-Ann-O-Neill-1-.json"
    download.value.save_as(tmp_path / "votes.json")
    study, known = read_key(run)
    votes = read_votes([tmp_path / "votes.json"], study, known)
    assert votes.raters or votes.rejected
    choices = [vote.choice for vote in votes.votes]
    assert len(choices) in (0, 4)  # none when the check happened to be answered wrongly
    assert page.title() == "Which one is better?"
    assert tab.complaints == []
    assert [url for url in tab.requests if url.startswith(("http", "ws"))] == []
    assert len(items) == 5


def test_a_page_that_is_opened_again_goes_on_where_it_was(tab: Tab, flat_run: Callable) -> None:
    written, _ = export_study(flat_run(("sds", "psd"), ("a red cube",), (0, 1, 2)).run, 3, "secret")
    page = begin(tab, written, "Bo")
    page.keyboard.press("ArrowDown")
    prompt, progress = page.locator("#left").get_attribute("src"), page.locator("#progress").inner_text()
    page = begin(tab, written, "Bo")
    assert page.locator("#progress").inner_text() == progress == "2 of 4"
    assert page.locator("#left").get_attribute("src") == prompt


def test_a_phone_shows_both_without_scrolling_sideways(tab: Tab, flat_run: Callable) -> None:
    written, _ = export_study(flat_run(("sds", "psd"), ("a red cube",), (0,)).run, 1, "secret")
    tab.page.set_viewport_size({"width": 390, "height": 844})
    page = begin(tab, written, "Cy")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    boxes = [page.locator(f"{side}").locator("..").bounding_box() for side in ("#left", "#right")]
    assert boxes[0]["y"] == boxes[1]["y"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(tab: Tab, flat_run: Callable, tmp_path: Path, scheme: str) -> None:
    run = flat_run(("sds", "psd"), ("a red cube",), (0,)).run
    page, _ = export_study(run, 4, "secret")
    assert tab.open(page).findings(scheme) == []
    begin(tab, page, "Ann")
    assert tab.findings(scheme) == []
