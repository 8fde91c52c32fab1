"""Renders made elsewhere become jobs: taken over once, by content, with what their files tell, and no more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_renders import draw, gpteval3d, threestudio
from PIL import Image

from psdbench.config import JobSpec
from psdbench.errors import UsageError
from psdbench.foreign import foreign_job, rig, spread
from psdbench.foreign.folders import Asset, find_assets
from psdbench.job import Models, Outcome, Task, Watch, execute, settle
from psdbench.job.evaluate import read_asset_views
from psdbench.store.manifest import read_manifest
from psdbench.store.run import job_folder, read_job

METRICS = ("coverage", "floaters")


def plain(tmp_path: Path, mode: str = "RGB", views: int = 3) -> Asset:
    files = [draw(tmp_path / "source" / f"{i}.png", number=i, mode=mode) for i in range(views)]
    return Asset("other", "a red cube", 0, tuple(files), "plain")


def done(spec: JobSpec, run: Path) -> tuple[Outcome, Path]:
    folder = job_folder(run, spec)
    return execute([Task(spec, folder, METRICS)], Models(), Watch())[0], folder


def test_a_foreign_job_is_taken_over_and_scored_once(tmp_path: Path) -> None:
    spec = foreign_job(plain(tmp_path))
    outcome, folder = done(spec, tmp_path / "run")
    assert (outcome.status, outcome.fresh) == ("finished", True)
    assert read_job(folder) == spec
    manifest = read_manifest(folder)
    assert manifest is not None
    assert {entry.stage for entry in manifest.files.values()} == {"render", "score"}
    assert json.loads((folder / "scores.json").read_text()).keys() == set(METRICS)
    views = read_asset_views(folder, spec.prompt, rig(spec))
    assert views.images.shape == (3, 3, 32, 32)
    assert (views.cameras, views.opacity, views.depth) == (None, None, None)
    again, _ = done(spec, tmp_path / "run")
    assert (again.status, again.fresh) == ("finished", False)


def test_the_id_is_that_of_the_pictures(tmp_path: Path) -> None:
    asset = plain(tmp_path)
    moved = replace(asset, files=tuple(p.rename(tmp_path / p.name) for p in asset.files))
    first = foreign_job(moved)
    assert foreign_job(moved, views=2).id != first.id
    draw(moved.files[1], "#000000")
    assert foreign_job(moved).id != first.id
    draw(moved.files[1], number=1)
    assert foreign_job(moved).id == first.id


def test_damage_is_repaired_from_the_source_and_a_changed_source_is_told(tmp_path: Path) -> None:
    from psdbench.errors import EnvironmentProblem

    asset = plain(tmp_path)
    spec = foreign_job(asset)
    _, folder = done(spec, tmp_path / "run")
    before = (folder / "renders" / "view_01.png").read_bytes()
    (folder / "renders" / "view_01.png").write_bytes(b"x")
    assert settle(Task(spec, folder, METRICS), Models(), Watch()) is None
    assert done(spec, tmp_path / "run")[0].status == "finished"
    assert (folder / "renders" / "view_01.png").read_bytes() == before
    (folder / "renders" / "view_01.png").write_bytes(b"x")
    asset.files[0].unlink()
    with pytest.raises(EnvironmentProblem, match="not those that were taken over"):
        done(spec, tmp_path / "run")


def test_transparent_pictures_stand_on_white_and_bring_their_opacity(tmp_path: Path) -> None:
    spec = foreign_job(plain(tmp_path, "RGBA"))
    _, folder = done(spec, tmp_path / "run")
    views = read_asset_views(folder, spec.prompt, None)
    assert views.opacity is not None
    assert views.images[0, :, 0, 0].tolist() == [1, 1, 1]
    assert set(views.opacity.unique().tolist()) == {0, 1}
    assert torch.equal(views.opacity[0, 0] > 0, (views.images[0] < 0.99).any(0))


def test_panels_of_threestudio_are_taken_apart(tmp_path: Path) -> None:
    [asset] = find_assets(threestudio(tmp_path / "outputs"))
    spec = foreign_job(asset, 4)
    _, folder = done(spec, tmp_path / "run")
    cameras = rig(spec)
    assert cameras is not None
    assert cameras.azimuth.tolist() == [0, 90, 180, 270]
    assert cameras.elevation.tolist() == [20.0] * 4
    views = read_asset_views(folder, spec.prompt, cameras)
    assert views.images.shape == (4, 3, 32, 32)
    assert views.opacity is not None
    red = views.images[0, :, 16, 16]
    assert red[0] > 0.7
    assert red[1] < 0.2
    assert views.opacity[0, 0, 16, 16] == 1
    assert views.opacity[0, 0, 0, 0] == 0


def test_views_are_spread_evenly() -> None:
    files = [Path(f"{i}.png") for i in range(120)]
    assert [int(path.stem) for path in spread(files, 8)] == [0, 15, 30, 45, 60, 75, 90, 105]
    assert spread(files[:3], 8) == files[:3]


def test_gpteval3d_has_cameras_that_nobody_knows(tmp_path: Path) -> None:
    assets = find_assets(gpteval3d(tmp_path / "t"))
    spec = foreign_job(assets[0])
    assert rig(spec) is None
    assert spec.foreign is not None
    assert len(spec.foreign.files) == 8
    assert "/" not in spec.folder_name


@pytest.mark.parametrize("colour", [0, 255, 128])
def test_a_flat_picture_fails_its_job(tmp_path: Path, colour: int) -> None:
    """Black images where a mesh was missing must never be scored as if they were results."""
    asset = plain(tmp_path)
    Image.new("RGB", (32, 32), (colour,) * 3).save(asset.files[1])
    outcome, folder = done(foreign_job(asset), tmp_path / "run")
    assert outcome.status == "failed"
    assert "1.png is one flat colour" in outcome.reason
    assert not (folder / "scores.json").exists()


def test_grey_and_deep_pictures_are_read_by_the_stated_policy(tmp_path: Path) -> None:
    asset = plain(tmp_path)
    deep = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(deep).save(asset.files[0])
    Image.open(asset.files[1]).convert("L").save(asset.files[1])
    outcome, folder = done(foreign_job(asset), tmp_path / "run")
    assert outcome.status == "finished"
    views = read_asset_views(folder, "a red cube", None)
    torch.testing.assert_close(
        views.images[0, 0], torch.from_numpy(deep / 65535).float(), atol=1 / 255, rtol=0
    )


@pytest.mark.parametrize(("size", "message"), [((40, 32), "not square"), ((64, 32), "not square")])
def test_pictures_that_are_not_square_are_refused(
    tmp_path: Path, size: tuple[int, int], message: str
) -> None:
    asset = plain(tmp_path)
    Image.new("RGB", size, "red").save(asset.files[0])
    with pytest.raises(UsageError, match=message):
        foreign_job(asset)


def test_what_is_no_picture_is_refused_or_fails(tmp_path: Path) -> None:
    asset = plain(tmp_path)
    asset.files[1].write_bytes(asset.files[1].read_bytes()[:60])
    outcome, _ = done(foreign_job(asset), tmp_path / "run")
    assert outcome.status == "failed"
    assert "1.png" in outcome.reason
    asset.files[0].write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"0\.png cannot be read as a picture"):
        foreign_job(asset)


def test_a_job_of_our_own_keeps_its_id() -> None:
    """The field came later: jobs without it have the ids they had."""
    from psdbench.config import PriorRef, Protocol, digest

    protocol = Protocol(PriorRef("tiny", "0" * 64))
    parts = {"prompt": "p", "method": "sds", "params": {}, "seed": 0, "protocol": protocol.hash}
    assert JobSpec("p", "sds", {}, 0, protocol).id == digest(parts)
