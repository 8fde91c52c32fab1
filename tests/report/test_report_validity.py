"""What a report says of its metrics: controls that fail, agreement with people, renders made elsewhere."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_renders import mate3d
from made_up_runs import PROMPTS, RunMaker

from psdbench.cli.foreign import foreign_tasks
from psdbench.job import Models, Watch, execute
from psdbench.report import build_report
from psdbench.report.sheets import column_names, rig_of
from psdbench.store.sealed import write_record
from psdbench.validity import CONTROLS

Maker = Callable[..., RunMaker]


def write_controls(run: Path, **outcomes: Any) -> None:
    """Controls of the made-up metrics: the hash of the scores, and what was missed."""
    entries = {
        id: {
            "sha256": sha256 * 64,
            "higher_is_better": True,
            "means": {"good": 0.5, "blank": 0.6, "noise": None, "wrong_prompt": 0.1},
            "missed": missed,
        }
        for id, (sha256, missed) in outcomes.items()
    }
    write_record(run / CONTROLS, {"version": 1, "good": "shapes", "metrics": entries})


def test_a_metric_that_fails_its_controls_is_marked(make_run: Maker, tmp_path: Path) -> None:
    run = make_run().run
    write_controls(run, hps_shapes=("a", ["blank"]), clip_shapes=("c", []))
    report = build_report([run])
    text = report.text("md")
    assert "hps_shapes ↑ ✗" in text
    assert "clip_shapes ↑ ✗" not in text
    assert "**hps_shapes** is not valid in these runs (✗): it does not rank 'blank' below the good" in text
    report.write_folder(tmp_path / "out", ("md", "csv"))
    table = (tmp_path / "out" / "report.md").read_text().partition("## Metric controls")[2]
    assert "**0.6000**" in table
    assert "no score" in table
    assert {m["metric"]: m["valid"] for m in json.loads(report.text("json"))["metrics"]} == {
        "hps_shapes": False,
        "clip_shapes": True,
        "true_preference": None,
        "shape_accuracy": None,
        "shape_majority": None,
    }
    rows = csv.DictReader(report.text("csv").splitlines())
    assert {row["metric"]: row["valid"] for row in rows}["hps_shapes"] == "false"


def test_controls_of_other_weights_say_nothing(make_run: Maker) -> None:
    run = make_run().run
    write_controls(run, hps_shapes=("f", ["blank"]))
    text = build_report([run]).text("md")
    assert "✗" not in text


def test_damaged_controls_do_not_stop_a_report(make_run: Maker) -> None:
    run = make_run().run
    (run / CONTROLS).write_text("[")
    assert "controls.json is corrupt" in build_report([run]).text("md")


def test_agreement_with_the_true_preference_is_in_the_report(make_run: Maker, tmp_path: Path) -> None:
    report = build_report([make_run().run])
    found = report.validity.agreements
    assert ("hps_shapes", "true_preference", "view") in found
    assert ("true_preference", "true_preference", "view") not in found
    assert found["hps_shapes", "true_preference", "view"].spearman.n == 12 * 9
    asset = found["hps_shapes", "true_preference", "asset"]
    assert asset.spearman.n == 12
    assert asset.pairs.mean is not None
    assert (
        asset.pairs.mean > 0.6
    )  # chance is 0.5; the made-up gain of psd and the levels of seeds are common to both
    report.write_folder(tmp_path / "out", ("md", "csv"))
    rows = list(csv.DictReader((tmp_path / "out" / "agreement.csv").open()))
    assert {row["unit"] for row in rows} == {"view", "asset"}
    assert "## Agreement with people" in (tmp_path / "out" / "report.md").read_text()


@pytest.fixture
def rated_run(tmp_path: Path) -> Path:
    """Assets made elsewhere with ratings that follow the size of what they show."""
    folder, ratings = mate3d(tmp_path / "projection")
    run = tmp_path / "rated"
    for task in foreign_tasks(folder, run, ["coverage", "floaters"], None, ratings, 4):
        assert execute([task], Models(), Watch())[0].status == "finished"
    return run


def test_agreement_with_ratings(rated_run: Path) -> None:
    report = build_report([rated_run])
    found = report.validity.agreements["coverage", "Overall", "asset"]
    assert found.spearman.n == 12
    assert found.pairs.mean == 1
    assert found.spearman.mean is not None
    assert found.spearman.mean > 0.9
    assert "floaters" in report.text("md")


def test_sheets_do_not_name_the_views_of_unknown_cameras(rated_run: Path) -> None:
    result = build_report([rated_run]).results[0]
    assert column_names(result, rig_of(result)) == ["view 0", "view 1", "view 2", "view 3"]


def test_renders_made_elsewhere_stand_beside_ours_and_are_marked(
    make_run: Maker, rated_run: Path, tmp_path: Path
) -> None:
    run = make_run().run
    report = build_report([run, rated_run])
    assert report.analysis.methods == ("sds", "psd", "magic3d‡", "one2345++‡", "sjc‡")
    assert report.analysis.baseline == "sds"
    text = report.text("md")
    assert "‡ optimizer not shared" in text
    shared = {
        row["method"]: row["optimizer_shared"] for row in csv.DictReader(report.text("csv").splitlines())
    }
    assert shared == {
        "sds": "true", "psd": "true", "sjc‡": "false", "magic3d‡": "false", "one2345++‡": "false",
    }  # fmt: skip
    assert json.loads(report.text("json"))["protocol"] == report.results[0].spec.protocol.hash
    assert not report.results[0].foreign
    report.write_folder(tmp_path / "out", ("md", "csv"))
    assert (tmp_path / "out" / "contact" / "a-brown-horse.png").is_file()


def test_beside_two_protocols_renders_made_elsewhere_have_a_part_of_their_own(
    make_run: Maker, rated_run: Path, other_protocol: Any
) -> None:
    maker = make_run()
    maker.finished("sds", PROMPTS[0], 7, protocol=other_protocol)
    report = build_report([maker.run, rated_run])
    assert [part.name for part in report.parts] == ["Protocol 1", "Protocol 2", "Renders made elsewhere"]
    assert report.parts[2].analysis.methods == ("magic3d‡", "one2345++‡", "sjc‡")
    assert "follow no protocol of ours" in report.text("md")
    assert len(report.table.header) == 3
