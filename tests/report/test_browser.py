"""The page in a real browser, opened from the disk: it works, asks for nothing and lets nothing foreign run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Tab, needs_browser
from hostile import HOSTILE
from made_up_runs import PROMPTS, RunMaker
from PIL import Image
from test_page import add_depth

from psdbench.report import build_report

pytestmark = needs_browser


@pytest.fixture
def written(make_run: Callable[..., RunMaker], tmp_path: Path) -> Path:
    """A report of two methods, three prompts and two seeds, with depth."""
    maker = make_run()
    for folder in (maker.run / "jobs").iterdir():
        add_depth(maker, folder)
    maker.diverged("vsd", PROMPTS[0])
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    return tmp_path / "report.html"


def test_it_opens_quietly_and_whole(tab: Tab, written: Path) -> None:
    tab.open(written)
    tab.until("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert tab.page.evaluate("document.images.length") == 3 + 2 + 6  # turntables, strips, thumbnails
    assert tab.page.evaluate("[...document.images].every((i) => i.alt)")
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [written.as_uri()]


def test_tables_sort_by_number_and_back(tab: Tab, written: Path) -> None:
    tab.open(written)
    table = "#by-prompt table"
    heading = tab.page.locator(f"{table} thead button", has_text="hps_shapes")
    column = f"{table} tbody tr td:nth-child(5) .mean"
    heading.click()
    up = [float(text) for text in tab.texts(column) if text != "–"]
    assert up == sorted(up)
    assert len(set(up)) == 6
    heading.press("Enter")
    down = [text for text in tab.texts(column)]
    assert [float(text) for text in down if text != "–"] == up[::-1]
    assert down[-1] == "–"
    assert tab.page.locator(f"{table} th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_turntables_turn_in_step(tab: Tab, written: Path) -> None:
    tab.open(written)
    tab.page.locator("#angle").fill("3")
    places = tab.page.evaluate("[...document.querySelectorAll('.turn img')].map((i) => i.style.transform)")
    assert len(places) == 3
    assert len(set(places)) == 1
    assert tab.page.locator("#view").inner_text().startswith("back right")
    tab.page.locator("#play").click()
    tab.until("document.getElementById('angle').value !== '3'")
    tab.page.locator("#play").click()
    assert tab.page.locator("#play").get_attribute("aria-pressed") == "false"


def test_prompts_and_seeds_are_chosen_by_keyboard_and_by_thumbnail(tab: Tab, written: Path) -> None:
    tab.open(written)
    shown = "#figures h3"
    assert tab.texts(shown) == ["ground truth", "sds, seed 0", "psd, seed 0"]
    tab.page.locator("#next").press("Enter")
    assert tab.page.locator("#prompt option:checked").inner_text() == sorted(PROMPTS)[1]
    tab.page.locator("#seed").select_option("1")
    assert tab.texts(shown)[1:] == ["sds, seed 1", "psd, seed 1"]
    tab.page.locator("button.thumb").last.click()
    assert tab.page.locator("#prompt option:checked").inner_text() == sorted(PROMPTS)[2]
    assert tab.page.locator(".strip .worst").count() == 2


def test_an_asset_turns_in_3d(tab: Tab, written: Path) -> None:
    tab.open(written)
    tab.page.locator("text=Turn in 3D").first.click()
    tab.page.wait_for_selector(".cloud canvas")
    before = tab.page.evaluate("document.querySelector('.cloud')._fullLayout.scene.camera.eye.x")
    tab.page.get_by_label("turn right").click()
    tab.until(f"document.querySelector('.cloud')._fullLayout.scene.camera.eye.x !== {before}")
    assert tab.page.evaluate("document.querySelector('.cloud').data[0].x.length") > 300
    assert [url for url in tab.requests if url.startswith(("http", "ws"))] == []
    assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(tab: Tab, written: Path, scheme: Any) -> None:
    tab.page.set_viewport_size({"width": 390, "height": 844})
    tab.page.emulate_media(color_scheme=scheme)
    tab.open(written)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.page.evaluate(wide) == 0
    paper = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(253, 253, 252)", "dark": "rgb(22, 24, 27)"}[scheme]
    tab.page.locator("#theme").click()
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") != paper


def test_everything_that_acts_has_a_name_and_ids_are_unique(tab: Tab, written: Path) -> None:
    tab.open(written)
    nameless = tab.page.evaluate(
        """[...document.querySelectorAll('button, a, select, input, [role=region], [role=img]')].filter(
             (e) => !(e.textContent.trim() || e.ariaLabel || e.getAttribute('aria-label') || e.labels?.length
                      || e.querySelector('img[alt]'))).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    twice = tab.page.evaluate(
        """(() => { const seen = new Map();
             for (const e of document.querySelectorAll('[id]')) seen.set(e.id, (seen.get(e.id) ?? 0) + 1);
             return [...seen].filter(([, n]) => n > 1).map(([id]) => id); })()"""
    )
    assert twice == []
    levels = tab.page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(tab: Tab, written: Path, scheme: str) -> None:
    assert tab.open(written).findings(scheme) == []


def test_axe_finds_what_is_wrong(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text('<html lang="en"><title>x</title><img src="data:,"><button></button>')
    found = {text.partition(":")[0] for text in tab.open(tmp_path / "bad.html").findings("light")}
    assert {"image-alt", "button-name"} <= found


@pytest.mark.slow
def test_a_full_page_is_small_and_opens_at_once(
    tab: Tab, make_run: Callable[..., RunMaker], tmp_path: Path
) -> None:
    """24 prompts, 8 methods and 3 seeds, of renders that are noise. Processor time, for machines are busy."""
    maker, page = make_run(methods=[]), tmp_path / "report.html"
    rng = np.random.default_rng(0)
    for prompt in (f"a red cube, number {n}" for n in range(24)):
        for method in ("sds", *(f"method{n}" for n in range(7))):
            for seed in range(3):
                folder = maker.finished(method, prompt, seed)
                for view in (folder / "renders").iterdir():
                    Image.fromarray(rng.integers(90, 250, (64, 64, 3), dtype=np.uint8)).save(view)
    build_report([maker.run]).write_file("html", page)
    spent = tab.page.context.new_cdp_session(tab.page)
    spent.send("Performance.enable")
    tab.open(page)
    tab.page.locator("button.thumb img").first.wait_for()
    metrics = {each["name"]: each["value"] for each in spent.send("Performance.getMetrics")["metrics"]}
    loaded = tab.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    size, seconds = page.stat().st_size / 1e6, metrics["ProcessTime"]
    print(f"\n{size:.1f} MB, {seconds:.2f} s of a processor to open, loaded after {loaded:.2f} s")
    assert tab.page.locator("button.thumb").count() == 24 * 8
    assert size < 15
    assert seconds < 2


def test_200_hostile_prompts_do_nothing(tab: Tab, make_run: Callable[..., RunMaker], tmp_path: Path) -> None:
    maker = make_run(methods=[])
    for prompt in HOSTILE[::7]:
        maker.finished("psd", prompt, 0)
    for index, prompt in enumerate(HOSTILE):
        maker.diverged("sds", prompt, 0, reason=HOSTILE[-index])
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    tab.page.on("dialog", lambda dialog: tab.complaints.append(dialog.message))
    tab.page.add_init_script("window.hacked = () => { window.wasHacked = true; };")
    tab.open(tmp_path / "report.html")
    for _ in range(4):
        tab.page.locator("#next").click()
    assert tab.page.evaluate("window.wasHacked === undefined && typeof window.hacked === 'function'")
    assert tab.page.evaluate("document.scripts.length") == 2
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [
        (tmp_path / "report.html").as_uri()
    ]
