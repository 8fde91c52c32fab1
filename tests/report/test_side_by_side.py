"""Runs of several protocols in one report: a part for each, the fields that differ on top, nothing compared across."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Tab, browser, needs_browser, tab
from made_up_runs import PROMPTS, PROTOCOL, RunMaker

from psdbench.config import Protocol
from psdbench.errors import UsageError
from psdbench.report import SideBySide, build_report

__all__ = ["browser", "tab"]

Maker = Callable[..., RunMaker]


@pytest.fixture
def runs(make_run: Maker, other_protocol: Protocol) -> list[Path]:
    """Two runs of two methods; their protocols differ in two fields."""
    one = make_run("one", prompts=PROMPTS[:2])
    two = make_run("two", methods=["sds", "vsd"], prompts=PROMPTS[:2], protocol=other_protocol)
    return [one.run, two.run]


def test_each_protocol_has_its_own_numbers(runs: list[Path]) -> None:
    report = build_report(runs)
    assert isinstance(report, SideBySide)
    alone = [build_report([run]) for run in runs]
    for part, single in zip(report.parts, alone, strict=True):
        assert part.analysis == single.analysis
    rows = list(csv.DictReader(io.StringIO(report.text("csv"))))
    assert len({row["protocol"] for row in rows}) == 2
    for row in rows:
        mates = {r["method"] for r in rows if r["protocol"] == row["protocol"]}
        assert row["baseline"] in ("", "sds")
        assert row["method"] in mates
    content = json.loads(report.text("json"))
    assert content["differing"] == {"negative_prompt": ["", "dull"], "optimize.steps": [10, 20]}
    assert content["protocols"] == [json.loads(each.text("json")) for each in alone]


def test_what_differs_stands_on_top(runs: list[Path]) -> None:
    report = build_report(runs)
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in report.table.rows}
    assert rows["runs"] == ["one", "two"]
    assert rows["jobs finished"] == ["8 of 8", "8 of 8"]
    assert rows["optimize.steps"] == ["10", "20"]
    assert rows["negative_prompt"] == ["–", "dull"]
    assert rows["hash"][0] == PROTOCOL.hash[:12]
    assert "optimize.views" not in rows
    text = report.text("md")
    places = [text.index(words) for words in ("## What differs", "# Protocol 1: one", "# Protocol 2: two")]
    assert places == sorted(places)
    captions = [line for line in report.text("latex").splitlines() if line.startswith(r"\caption")]
    assert [line[9:19] for line in captions] == ["Protocol 1"] * 2 + ["Protocol 2"] * 2


def test_one_run_folder_may_hold_both(make_run: Maker, other_protocol: Protocol) -> None:
    maker = make_run(prompts=PROMPTS[:2])
    maker.finished("sds", PROMPTS[0], protocol=other_protocol)
    report = build_report([maker.run])
    assert [len(part.results) for part in report.parts] == [8, 1]
    assert [part.content.title for part in report.parts] == ["trial", "trial"]


def test_a_baseline_counts_where_it_is(runs: list[Path]) -> None:
    report = build_report(runs, "vsd")
    assert [part.analysis.baseline for part in report.parts] == ["sds", "vsd"]
    with pytest.raises(UsageError, match="unknown baseline 'vsds'"):
        build_report(runs, "vsds")


def test_every_file_is_written(runs: list[Path], tmp_path: Path) -> None:
    build_report(runs).write_folder(tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert {"report.html", "report.md", "table.tex", "scores.parquet", "contact/1/overview.png"} <= names
    assert {"contact/2/overview.png", "plots/protocol-2-cost-seconds.svg"} <= names
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.count("contact/1/overview.png") == text.count("contact/2/overview.png") == 1
    for name in ("scores.csv", "cost.csv"):
        rows = list(csv.DictReader((tmp_path / "out" / name).open()))
        assert len({row["protocol"] for row in rows}) == 2


@needs_browser
def test_both_galleries_work(tab: Tab, runs: list[Path], tmp_path: Path) -> None:
    build_report(runs).write_file("html", tmp_path / "report.html")
    tab.open(tmp_path / "report.html")
    assert tab.texts("#protocol-1-figures h4") == ["ground truth", "sds, seed 0", "psd, seed 0"]
    assert tab.texts("#protocol-2-figures h4") == ["ground truth", "sds, seed 0", "vsd, seed 0"]
    tab.page.locator("#protocol-2-next").click()
    chosen = [f"#protocol-{n}-prompt option:checked" for n in (1, 2)]
    assert [tab.page.locator(each).inner_text() for each in chosen] == sorted(PROMPTS[:2])
    tab.page.locator("#protocol-1-part button.thumb").last.click()
    assert tab.page.locator(chosen[0]).inner_text() == sorted(PROMPTS[:2])[1]
    ids = tab.page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert tab.texts("#differing tbody tr th")[:3] == ["runs", "jobs finished", "hash"]
    assert tab.complaints == []


@needs_browser
def test_axe_finds_nothing_serious(tab: Tab, runs: list[Path], tmp_path: Path) -> None:
    build_report(runs).write_file("html", tmp_path / "report.html")
    assert tab.open(tmp_path / "report.html").findings("light") == []
