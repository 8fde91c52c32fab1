"""`psdbench score FOLDER` on renders made elsewhere, from the outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_renders import draw, gpteval3d, mate3d, threestudio
from PIL import Image

from psdbench.store.table import load_table
from psdbench.validity import CONTROLS


def test_a_folder_is_taken_over_scored_and_reported(program: Callable, tmp_path: Path) -> None:
    folder, run = gpteval3d(tmp_path / "t"), tmp_path / "run"
    done = program("score", folder, "--out", run)
    assert done.code == 0, done.err
    assert done.out == f"{run}\n"
    assert "nobody knows which view is the front" in done.err
    assert "4 of 4 jobs finished" in done.err
    table = load_table(run)
    assert set(table.method) == {"mvdream", "sjc"}
    assert set(table.scorer) == {"coverage", "floaters"}
    assert len(table) == 4 * 2 * 8
    assert (run / CONTROLS).is_file()
    facts = json.loads((run / "run.json").read_text())
    assert facts["foreign"]["layouts"] == ["gpteval3d"]
    again = program("score", folder, "--out", run, "--json")
    assert {job["fresh"] for job in json.loads(again.out)["jobs"]} == {False}
    report = program("report", run, "--baseline", "sjc‡")
    assert report.code == 0
    assert "optimizer not shared" in report.out


def test_more_metrics_are_added_through_the_run(program: Callable, tmp_path: Path) -> None:
    folder, run = threestudio(tmp_path / "outputs"), tmp_path / "run"
    assert program("score", folder, "--out", run, "--metrics", "coverage").code == 0
    done = program("score", run, "--metrics", "true_preference")
    assert done.code == 0, done.err
    table = load_table(run)
    assert set(table.scorer) == {"coverage", "true_preference"}
    assert table[table.scorer == "true_preference"].value.notna().all()


def test_ratings_become_agreement(program: Callable, tmp_path: Path) -> None:
    folder, ratings = mate3d(tmp_path / "projection")
    run = tmp_path / "run"
    assert program("score", folder, "--ratings", ratings, "--out", run, "--views", 2).code == 0
    out = program("report", run).code
    assert out == 0
    text = (run / "report" / "report.md").read_text()
    assert "## Agreement with people" in text
    assert "Overall" in text


def test_a_flat_render_is_a_failed_job_not_a_score(program: Callable, tmp_path: Path) -> None:
    folder = gpteval3d(tmp_path / "t", 8)
    Image.new("RGB", (32, 32)).save(folder / "methods" / "sjc" / "0" / "0" / "rgb_2.png")
    done = program("score", folder, "--out", tmp_path / "run")
    assert done.code == 3
    assert "3 of 4 jobs finished" in done.err
    assert "rgb_2.png is one flat colour" in done.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--metrics", "consistency"], "needs the depth of the views"),
        (["--metrics", "ground_truth"], "needs the evaluation cameras"),
        (["--metrics", "coverag"], "unknown metric 'coverag'"),
        (["--ratings", "nowhere.csv"], "cannot read the ratings"),
        (["--prompts", "nowhere.txt"], "unknown prompt file"),
    ],
)
def test_mistakes_are_a_line_and_a_remedy(
    program: Callable, tmp_path: Path, args: list[str], message: str
) -> None:
    folder = gpteval3d(tmp_path / "t", 2)
    done = program("score", folder, "--out", tmp_path / "run", *args)
    assert (done.code, done.out) == (2, "")
    error, remedy = done.err.splitlines()
    assert message in error
    assert remedy.startswith("  remedy: ")
    assert not (tmp_path / "run").exists()


def test_options_of_foreign_renders_do_not_fit_a_run(program: Callable, tmp_path: Path) -> None:
    (tmp_path / "run" / "jobs").mkdir(parents=True)
    done = program("score", tmp_path / "run", "--ratings", "all.csv")
    assert done.code == 2
    assert "--ratings is for renders made elsewhere" in done.err


def test_an_empty_folder_is_refused(program: Callable, tmp_path: Path) -> None:
    draw(tmp_path / "loose.png")
    done = program("score", tmp_path)
    assert done.code == 2
    assert "error: " in done.err
