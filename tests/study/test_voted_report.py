"""Votes in the main report: the verdict, the ranking and the metrics' agreement, in every format."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import RunMaker
from test_study import vote
from voters import page_data, save_votes

from psdbench.cli.report import report as command
from psdbench.errors import UsageError
from psdbench.report import build_report
from psdbench.study.export import export_study


@pytest.fixture
def voted(blurred_run: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    """A run with a study that three simulated people have voted on."""
    export_study(blurred_run, 24, "secret")
    (tmp_path / "votes").mkdir()
    return blurred_run, vote(blurred_run, tmp_path / "votes")


def test_the_verdict_says_whom_people_prefer(voted: tuple[Path, list[Path]]) -> None:
    run, files = voted
    report = build_report([run], "good", files)
    text = report.text("md")
    assert "**best** is preferred by people: chance to be preferred to good 0." in text
    assert "**poor** is not preferred by people: chance to be preferred to good 0." in text
    assert "by 72 votes of 3 raters" in text
    assert report.votes.strengths.beats["best", "poor"].mean > 0.8
    assert [row[0].text for row in report.content.votes[0].rows] == ["best", "good", "poor"]
    assert "preferred by people" not in build_report([run], "good").text("md")


def test_every_format_has_them(voted: tuple[Path, list[Path]], tmp_path: Path) -> None:
    command([voted[0]], votes=[tmp_path / "votes"], output=tmp_path / "out")
    rows = {row["metric"]: row for row in csv.DictReader((tmp_path / "out" / "agreement.csv").open())}
    assert {row["people"] for row in rows.values()} == {"votes"}
    assert float(rows["clip_shapes"]["pairs"]) > 0.8 > float(rows["floaters"]["pairs"])
    assert rows["clip_shapes"]["spearman"] == ""
    content = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [each["method"] for each in content["votes"]["methods"]] == ["best", "good", "poor"]
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text()
        assert "Methods by votes" in text
        assert "Metrics and votes" in text
    assert "What people prefer" in (tmp_path / "out" / "report.html").read_text()


def test_votes_belong_to_one_of_the_runs(
    voted: tuple[Path, list[Path]], flat_run: Callable[..., RunMaker]
) -> None:
    run, files = voted
    other = flat_run(("sds", "psd"), ("a red cube",), (0,)).run
    assert build_report([other, run], votes=files).votes is not None
    with pytest.raises(UsageError, match="no run here has the study") as caught:
        build_report([other], votes=files)
    assert "report the run that the study was exported from" in str(caught.value.remedy)
    export_study(other, 1, "another")
    with pytest.raises(UsageError, match="votes on another study"):
        build_report([other, run], votes=[*files, _votes_on(other, run)])


def _votes_on(run: Path, place: Path) -> Path:
    return save_votes(place / "other.json", page_data(run / "study" / "study.html"), "x", lambda item: "a")


def test_a_folder_without_votes_is_refused(voted: tuple[Path, list[Path]], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.json file"):
        command([voted[0]], votes=[tmp_path / "empty"])
