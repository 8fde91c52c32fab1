"""Grids: their size, and text that fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import PROMPTS, RunMaker
from PIL import Image, ImageFont

from psdbench.report import build_report, sheets
from psdbench.report.drawing import Cell, Row, draw_grid, fitted, wrapped


def length(text: str) -> float:
    """Width in pixels at size 17."""
    return ImageFont.load_default(17).getlength(text)


@pytest.mark.parametrize(
    "text",
    [
        "sds",
        "a green cube on top of a pink cylinder with a very long tail of words that nobody reads",
        "psd(preference_scale=0.5, negative=dpo_x0)",
        "Donaudampfschifffahrtsgesellschaftskapitänsmützenfabrik" * 3,
        "",
    ],
)
def test_text_fits(text: str) -> None:
    lines = wrapped(text, 17, 128, 3)
    assert len(lines) <= 3
    assert all(length(line) <= 128 for line in lines)
    assert "…" in "".join(lines) or "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert length(fitted(text, 17, 60)) <= 60


def test_long_words_are_cut_where_they_have_joints() -> None:
    assert wrapped("psd(preference_scale=32.0)", 17, 128, 4) == ["psd", "(preference_", "scale=32.0)"]
    assert wrapped("sds(weighting=sds)", 17, 128, 4) == ["sds", "(weighting=sds)"]
    assert wrapped("psd(preference_scale=32.0)", 17, 128, 2) == ["psd", "(preference_sc…"]


def test_pictures_stand_in_their_places() -> None:
    red = Image.new("RGB", (8, 8), "red")
    rows = [
        Row("one", "seed 0", [Cell(red), Cell()]),
        Row("two", "", [Cell(words="diverged"), Cell(red)], True),
    ]
    sheet = draw_grid("a title", ["left", "right"], rows, 64, 100)
    left, right, top = 24 + 100 + 32, 24 + 100 + 70 + 32, sheet.height - 24 - 64 - 6 - 10 - 32
    bottom = sheet.height - 24 - 32
    assert sheet.getpixel((left, top)) == sheet.getpixel((right, bottom)) == (255, 0, 0)
    assert sheet.getpixel((right, top))[0] == sheet.getpixel((right, top))[1] > 200


def test_many_rows_show_the_first_seed_and_many_prompts_take_pages(
    make_run: Callable[..., RunMaker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "MAX_ROWS", 3)
    monkeypatch.setattr(sheets, "OVERVIEW_PROMPTS", 1)
    maker = make_run(prompts=PROMPTS[:2])
    build_report([maker.run]).write_folder(tmp_path, ("md",))
    names = {path.name for path in (tmp_path / "contact").glob("overview*")}
    assert names == {"overview.png", "overview-2.png"}
    sheet = Image.open(tmp_path / "contact" / "a-red-cube.png")
    assert sheet.height < 4 * 150 + 60  # the truth and two methods, not four jobs
