"""Snapshots on the way: they change nothing, are taken when due, survive kills, and are sealed and scored."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import contents, make_task
from PIL import Image
from test_budget import make_prior, make_spec
from test_budget import run as run_job

from psdbench import registry
from psdbench.config import JobSpec, PriorRef
from psdbench.errors import Interrupted
from psdbench.export.turntable import to_picture
from psdbench.job import Models, Watch, execute, settle
from psdbench.job.evaluate import draw_snapshot, rig_views
from psdbench.optimizer import checkpoint
from psdbench.optimizer.loop import TRACE, Optimisation, OptimizeResult
from psdbench.optimizer.particles import ASSET
from psdbench.optimizer.snapshots import Snapshots, taken
from psdbench.optimizer.stopwatch import Stopwatch
from psdbench.store.manifest import problems, read_manifest

STEPS = 12


def run(spec: JobSpec, folder: Path, snapshots: int = 0, **hooks: Any) -> OptimizeResult:
    return run_job(spec, folder, snapshots=Snapshots(folder, snapshots, draw_snapshot), **hooks)


def bytes_of(folder: Path, names: list[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def steps(folder: Path) -> list[int]:
    return [int(path.name) for path in taken(folder)]


@pytest.mark.parametrize("name", ["sds", "vsd", "psd"])
def test_they_change_no_bit_of_the_job(tmp_path: Path, name: str) -> None:
    plain = run(make_spec(name, steps=STEPS), tmp_path / "off")
    seen = run(make_spec(name, steps=STEPS), tmp_path / "on", snapshots=3)
    assert plain.trace == seen.trace
    assert plain.counters == seen.counters
    assert bytes_of(tmp_path / "off", [ASSET, TRACE]) == bytes_of(tmp_path / "on", [ASSET, TRACE])
    assert steps(tmp_path / "off") == []
    assert steps(tmp_path / "on") == [3, 6, 9]
    assert {name for name in seen.files if name.startswith("snapshots/000006/")} == {
        "snapshots/000006/cost.json",
        "snapshots/000006/renders/geometry.safetensors",
        *(f"snapshots/000006/renders/view_{i:02d}.png" for i in range(9)),
    }


def test_one_shows_the_asset_of_its_step(tmp_path: Path) -> None:
    spec = make_spec(steps=STEPS)
    run(spec, tmp_path, snapshots=1, on_step=lambda row: row)
    begun = Optimisation.begin(spec, make_prior(), registry.method_class("sds")(), None)
    for _ in range(6):
        begun.step()
    expected = to_picture(rig_views(begun.particles[0].asset, spec.protocol)[2].rgb[0])
    (place,) = taken(tmp_path)
    with Image.open(place / "renders" / "view_02.png") as found:
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    cost = json.loads((place / "cost.json").read_text())
    assert (cost["steps"], cost["share"]) == (6, 0.5)
    assert cost["denoiser_forwards"] == begun.prior.counters.denoiser_forwards == 12


@pytest.mark.parametrize(
    ("count", "fields", "expected"),
    [
        (2, {"steps": 10}, [4, 7]),
        (2, {"nfe": 20}, [4, 7]),
        (20, {"steps": 4}, [1, 2, 3]),
        (1, {"steps": 1}, []),
        (3, {"steps": 12, "particles": 2}, [3, 6, 9]),
        (0, {"nfe": 1, "particles": 3}, []),
    ],
)
def test_they_are_due_at_even_parts_of_the_length(
    tmp_path: Path, count: int, fields: dict[str, Any], expected: list[int]
) -> None:
    run(make_spec(**fields), tmp_path, snapshots=count)
    assert steps(tmp_path) == expected


def test_a_killed_job_has_the_same_ones(tmp_path: Path) -> None:
    whole = run(make_spec(steps=STEPS), tmp_path / "whole", snapshots=3)
    with pytest.raises(ZeroDivisionError):
        run(make_spec(steps=STEPS), tmp_path / "killed", snapshots=3, on_step=lambda row: 1 / (9 - row.step))
    assert steps(tmp_path / "killed") == [3, 6, 9]
    assert checkpoint.newest_first(tmp_path / "killed")[0].name == "checkpoint-000005.safetensors"
    asked = iter([0, 15])
    with pytest.raises(Interrupted):
        run(make_spec(steps=STEPS), tmp_path / "killed", snapshots=3, should_stop=lambda: next(asked))
    assert steps(tmp_path / "killed") == [
        3,
        6,
    ]  # the one after 9 steps was of a future that is computed again
    resumed = run(make_spec(steps=STEPS), tmp_path / "killed", snapshots=3)
    assert resumed.files == whole.files
    pictures = [name for name in whole.files if name.endswith(".png")]
    assert len(pictures) == 27
    assert bytes_of(tmp_path / "killed", pictures) == bytes_of(tmp_path / "whole", pictures)


def test_their_time_is_not_counted() -> None:
    clock = Stopwatch(torch.device("cpu"))
    clock.lap("rest")
    time.sleep(0.2)
    clock.skip()
    clock.lap("rest")
    assert sum(clock.seconds.values()) < 0.1


def test_they_are_sealed_and_scored_with_the_job(tmp_path: Path, prior: PriorRef, models: Models) -> None:
    plain, task = make_task(tmp_path / "off", prior), replace(make_task(tmp_path, prior), snapshots=1)
    for each in (plain, task):
        assert execute([each], models, Watch())[0].status == "finished"
    assert task.spec.id == plain.spec.id
    assert contents(task.folder) == contents(plain.folder)
    manifest = read_manifest(task.folder)
    assert manifest is not None
    stages = {name: entry.stage for name, entry in manifest.files.items() if name.startswith("snapshots/")}
    assert len(stages) == 12
    assert stages["snapshots/000002/scores.json"] == "score"
    assert stages["snapshots/000002/cost.json"] == "optimize"
    scores = json.loads((task.folder / "snapshots" / "000002" / "scores.json").read_text())
    assert scores.keys() == set(task.metrics)
    assert settle(task, models, Watch()) is not None


def test_a_new_metric_scores_them_too(tmp_path: Path, prior: PriorRef, models: Models) -> None:
    task = replace(make_task(tmp_path, prior), snapshots=1, metrics=("true_preference",))
    execute([task], models, Watch())
    place = task.folder / "snapshots" / "000002" / "scores.json"
    before = json.loads(place.read_text())
    more = replace(task, metrics=("true_preference", "coverage"), snapshots=0)
    assert execute([more], models, Watch())[0].fresh
    after = json.loads(place.read_text())
    assert after.keys() == {"true_preference", "coverage"}
    assert after["true_preference"] == before["true_preference"]
    manifest = read_manifest(task.folder)
    assert manifest is not None
    assert problems(task.folder, manifest.files) == {}


@pytest.mark.parametrize("name", ["cost.json", "scores.json", "renders/view_03.png"])
def test_a_damaged_one_is_made_again(tmp_path: Path, prior: PriorRef, models: Models, name: str) -> None:
    task = replace(make_task(tmp_path, prior), snapshots=1)
    execute([task], models, Watch())
    good = contents(task.folder) | bytes_of(task.folder, ["snapshots/000002/renders/view_03.png"])
    path = task.folder / "snapshots" / "000002" / name
    path.write_bytes(path.read_bytes()[:-3])
    assert execute([task], models, Watch())[0].fresh
    assert contents(task.folder) | bytes_of(task.folder, ["snapshots/000002/renders/view_03.png"]) == good
    manifest = read_manifest(task.folder)
    assert manifest is not None
    assert problems(task.folder, manifest.files) == {}


def test_where_it_cannot_be_made_again_it_is_left_out(
    tmp_path: Path, prior: PriorRef, models: Models
) -> None:
    task = replace(make_task(tmp_path, prior), snapshots=3, keep_checkpoints=True)
    execute([task], models, Watch())
    (task.folder / "snapshots" / "000002" / "renders" / "view_03.png").write_bytes(b"")
    assert execute([task], models, Watch())[0].status == "finished"
    assert steps(task.folder) == [1, 3]
    manifest = read_manifest(task.folder)
    assert manifest is not None
    assert problems(task.folder, manifest.files) == {}
    assert not any("000002" in name for name in manifest.files)
