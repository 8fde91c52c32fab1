"""The page for everybody: axe-core finds nothing in it that seriously hinders people, light or dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Tab, needs_browser
from made_up_runs import RunMaker
from test_page import add_depth

from psdbench.report import build_report

pytestmark = needs_browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    tab: Tab, make_run: Callable[..., RunMaker], tmp_path: Path, scheme: str
) -> None:
    maker = make_run()
    for folder in (maker.run / "jobs").iterdir():
        add_depth(maker, folder)
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    assert tab.open(tmp_path / "report.html").findings(scheme) == []


def test_axe_finds_what_is_wrong(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text('<html lang="en"><title>x</title><img src="data:,"><button></button>')
    assert {text.partition(":")[0] for text in tab.open(tmp_path / "bad.html").findings("light")} == {
        "image-alt",
        "button-name",
    }
