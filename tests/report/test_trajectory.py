"""Snapshots in the report: curves over the same jobs, the front of all points, a file with every number."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from made_up_runs import PROMPTS, RunMaker, write_json
from test_page import page_of

from psdbench.report import build_report
from psdbench.report.cost import Point, on_the_front
from psdbench.report.trajectory import curves
from psdbench.stats import Estimate

Maker = Callable[..., RunMaker]
SHARES = (0.25, 0.5, 0.75)


def add_snapshots(maker: RunMaker, folder: Path, shares: Sequence[float] = SHARES) -> None:
    """Snapshots of a finished job: a share of its cost, and as large a share of its scores."""
    cost, scores = (json.loads((folder / name).read_text()) for name in ("cost.json", "scores.json"))
    for share in shares:
        place = folder / "snapshots" / f"{round(100 * share):06d}"
        place.mkdir(parents=True)
        spent = {name: share * value for name, value in cost.items() if isinstance(value, int | float)}
        write_json(place / "cost.json", {**spent, "share": share})
        part = {id: {**e, "values": [share * value for value in e["values"]]} for id, e in scores.items()}
        write_json(place / "scores.json", part)
    maker.commit(folder, "finished")


def jobs(maker: RunMaker, start: str = "") -> list[Path]:
    return sorted(path for path in (maker.run / "jobs").iterdir() if path.name.startswith(start))


@pytest.fixture
def maker(make_run: Maker) -> RunMaker:
    """Two methods, three prompts, one seed, with snapshots of all jobs."""
    made = make_run(seeds=(0,))
    for folder in jobs(made):
        add_snapshots(made, folder)
    return made


def test_a_curve_goes_from_snapshot_to_snapshot_to_the_end(maker: RunMaker) -> None:
    report = build_report([maker.run])
    metric = report.analysis.metric("clip_shapes")
    found = curves(report.analysis, report.results, metric, "denoiser_forwards")
    assert [curve.method for curve in found] == ["sds", "psd"]
    for curve in found:
        final = report.analysis.means[curve.method, "clip_shapes"]
        for share, point in zip((*SHARES, 1.0), curve.points, strict=True):
            assert point.quality.mean == pytest.approx(share * final.mean)
            assert point.quality.n == 3
            assert point.cost == pytest.approx(share * {"sds": 20, "psd": 60}[curve.method])
        assert curve.points[-1].quality == final


def test_only_jobs_with_every_point_are_in_a_curve(maker: RunMaker) -> None:
    broken = jobs(maker, "psd")[0]
    scores = json.loads((broken / "snapshots" / "000050" / "scores.json").read_text())
    scores["clip_shapes"]["values"][0] = None
    write_json(broken / "snapshots" / "000050" / "scores.json", scores)
    maker.commit(broken, "finished")
    add_snapshots(maker, maker.finished("psd", PROMPTS[0], 7), (0.5,))
    maker.finished("psd", PROMPTS[0], 8)
    report = build_report([maker.run])
    metric = report.analysis.metric("clip_shapes")
    psd = curves(report.analysis, report.results, metric, "seconds")[1]
    assert [point.quality.n for point in psd.points] == [2] * 4
    assert {len(r.snapshots) for r in report.results} == {3, 1, 0}


@pytest.mark.parametrize(("higher", "expected"), [(True, {"a", "c"}), (False, {"a", "b"})])
def test_the_front_is_what_nothing_cheaper_reaches(higher: bool, expected: set[str]) -> None:
    places = {"a": (1, 5.0), "b": (2, 4.0), "c": (3, 6.0), "d": (4, 6.0), "e": (2, 5.0)}
    points = [Point(name, cost, Estimate(1, 1, mean)) for name, (cost, mean) in places.items()]
    assert {point.method for point in on_the_front(points, higher)} == expected


def test_every_number_is_in_a_file(maker: RunMaker, tmp_path: Path) -> None:
    build_report([maker.run]).write_folder(tmp_path / "out", ("csv",))
    rows = list(csv.DictReader((tmp_path / "out" / "snapshots.csv").open()))
    assert len(rows) == 6 * 4 * 4  # jobs, snapshots with the end, metrics
    assert {row["share"] for row in rows} == {"0.25", "0.5", "0.75", "1"}
    documented = [row["column"] for row in csv.DictReader((tmp_path / "out" / "columns.csv").open())
                  if row["file"] == "snapshots.csv"]  # fmt: skip
    assert list(rows[0]) == documented


def test_the_page_draws_them_in_place_of_the_end_points(maker: RunMaker, tmp_path: Path) -> None:
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    names = {path.stem for path in (tmp_path / "plots").glob("*.svg")}
    assert names == {
        "gains",
        "curve-true-preference-denoiser-forwards",
        "curve-true-preference-seconds",
        "curve-hps-shapes-denoiser-forwards",
    }
    svg = (tmp_path / "plots" / "curve-true-preference-seconds.svg").read_text()
    assert "Pareto front" in svg
    rows = list(csv.DictReader((tmp_path / "plots" / "curve-true-preference-seconds.csv").open()))
    assert [row["method"] for row in rows] == ["sds"] * 4 + ["psd"] * 4
    assert "Scores of snapshots" in "".join(page_of(tmp_path / "report.html").words)


def test_altered_snapshots_give_no_numbers(maker: RunMaker) -> None:
    path = jobs(maker)[0] / "snapshots" / "000050" / "scores.json"
    path.write_text(path.read_text().replace("1", "2", 1))
    states = [result.status for result in build_report([maker.run]).results]
    assert sorted(states) == ["corrupt"] + ["finished"] * 5


def test_jobs_without_snapshots_have_no_file_of_them(make_run: Maker, tmp_path: Path) -> None:
    build_report([make_run(prompts=PROMPTS[:1]).run]).write_folder(tmp_path / "out", ("csv",))
    assert not (tmp_path / "out" / "snapshots.csv").exists()
