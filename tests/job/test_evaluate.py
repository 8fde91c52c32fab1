"""Evaluation: the same bytes every time, scores of the stored pictures, no score for an empty scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from psdbench.camera_config import CameraConfig
from psdbench.cameras import evaluation_rig
from psdbench.config import EvaluateConfig, JobSpec, PriorRef, Protocol
from psdbench.errors import CorruptResult, Diverged
from psdbench.job.evaluate import read_asset_views, read_views, render_asset
from psdbench.optimizer.particles import ASSET
from psdbench.optimizer.trace import TraceRow, write_trace
from psdbench.registry import make_representation
from psdbench.scorers.asset import score_views
from psdbench.store import atomic
from psdbench.store.table import GEOMETRY

VIEWS = 9


@pytest.fixture
def spec() -> JobSpec:
    protocol = Protocol(
        prior=PriorRef("tiny", "0" * 64),
        representation_params={"resolution": 12},
        evaluate=EvaluateConfig(size=24, turntable_frames=3, turntable_scale=2),
    )
    return JobSpec("a red cube", "sds", {}, 0, protocol)


def store_asset(spec: JobSpec, folder: Path) -> Any:
    """Write the initial asset of a job as if it had been optimised."""
    generator = torch.Generator().manual_seed(3)
    asset = make_representation("voxels", spec.protocol.representation_params, generator)
    atomic.write_tensors(folder / ASSET, asset.state_dict())
    return asset


class Recorder:
    """A scorer that keeps what it was shown; its score is the mean of the image."""

    sha256 = "0" * 64
    higher_is_better = differentiable = True

    def __init__(self, id: str, view_words: bool) -> None:
        self.id, self.view_words = id, view_words

    def score(self, images: Tensor, prompts: Any, cameras: Any = None) -> Tensor:
        self.images, self.prompts, self.cameras = images, list(prompts), cameras
        scores = images.mean((1, 2, 3))
        scores[0] = float("nan")
        return scores


def test_files_are_complete_and_identical_between_runs(spec: JobSpec, tmp_path: Path) -> None:
    for name in ("first", "second"):
        store_asset(spec, tmp_path / name)
        made = render_asset(spec, tmp_path / name)
    views = [f"renders/view_{i:02d}.png" for i in range(VIEWS)]
    assert made == [*views, "renders/geometry.safetensors", "turntable.mp4"]
    for name in made:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    with Image.open(tmp_path / "first" / made[0]) as picture:
        assert picture.size == (24, 24)
        assert picture.mode == "RGB"
        assert picture.info == {}


def test_stored_views_are_the_renders_of_the_rig(spec: JobSpec, tmp_path: Path) -> None:
    asset = store_asset(spec, tmp_path)
    render_asset(spec, tmp_path)
    expected = asset.render(evaluation_rig(spec.protocol.cameras), 24, torch.ones(3)).rgb
    torch.testing.assert_close(read_views(tmp_path), expected.detach(), atol=0.5 / 255 + 1e-6, rtol=0)


def test_stored_geometry_is_that_of_the_renders(spec: JobSpec, tmp_path: Path) -> None:
    asset, rig = store_asset(spec, tmp_path), evaluation_rig(spec.protocol.cameras)
    render_asset(spec, tmp_path)
    expected = asset.render(rig, 24, torch.ones(3))
    views = read_asset_views(tmp_path, spec.prompt, rig)
    assert views.cameras is rig
    torch.testing.assert_close(views.opacity, expected.opacity.detach(), atol=0.5 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(views.depth, expected.depth, atol=0, rtol=1e-3)
    (tmp_path / GEOMETRY).unlink()
    bare = read_asset_views(tmp_path, spec.prompt, None)
    assert (bare.cameras, bare.opacity, bare.depth) == (None, None, None)
    save_file({"opacity": torch.zeros(3, 24, 24, dtype=torch.uint8)}, tmp_path / GEOMETRY)
    with pytest.raises(CorruptResult, match="not that of the views"):
        read_asset_views(tmp_path, spec.prompt, rig)
    (tmp_path / GEOMETRY).write_bytes(b"damaged")
    with pytest.raises(CorruptResult, match="geometry"):
        read_asset_views(tmp_path, spec.prompt, rig)


def test_scores_are_of_the_stored_pictures(spec: JobSpec, tmp_path: Path) -> None:
    store_asset(spec, tmp_path)
    render_asset(spec, tmp_path)
    Image.new("RGB", (24, 24), (51, 51, 51)).save(tmp_path / "renders" / "view_04.png")
    rig = evaluation_rig(spec.protocol.cameras)
    plain, worded = Recorder("plain", False), Recorder("worded", True)
    views = read_asset_views(tmp_path, spec.prompt, rig)
    scores = score_views(plain, views)
    assert scores[0] is None
    assert scores[4] == pytest.approx(0.2)
    score_views(worded, views)
    assert torch.equal(plain.images, read_views(tmp_path))
    assert plain.prompts == ["a red cube"] * VIEWS
    assert worded.prompts[0] == "a red cube, front view"
    assert worded.prompts[4] == "a red cube, back view"
    assert worded.prompts[-1] == "a red cube, overhead view"
    assert worded.cameras is rig


def test_an_empty_scene_is_no_result(spec: JobSpec, tmp_path: Path) -> None:
    asset = store_asset(spec, tmp_path)
    with torch.no_grad():
        asset.density.fill_(-50.0)
    atomic.write_tensors(tmp_path / ASSET, asset.state_dict())
    done = 7
    assert done != spec.protocol.optimize.steps, "a budget ends a job after as many steps as it pays for"
    write_trace(tmp_path, [TraceRow(i, 0.0, 0.0, 0.0, 500, 0.1, i / done, 2 * i) for i in range(done)])
    with pytest.raises(Diverged, match="empty") as diverged:
        render_asset(spec, tmp_path)
    assert diverged.value.step == done
    assert not (tmp_path / "renders").exists()
    (tmp_path / "trace.csv").unlink()
    with pytest.raises(CorruptResult, match=r"cannot read .*trace\.csv"):
        render_asset(spec, tmp_path)


def test_damaged_files_are_named(spec: JobSpec, tmp_path: Path) -> None:
    with pytest.raises(CorruptResult, match="asset"):
        render_asset(spec, tmp_path)
    with pytest.raises(CorruptResult, match="renders"):
        read_views(tmp_path)
    store_asset(spec, tmp_path)
    render_asset(spec, tmp_path)
    few = evaluation_rig(CameraConfig(rig_views=3))
    with pytest.raises(CorruptResult, match="9 views, not 4"):
        read_asset_views(tmp_path, spec.prompt, few)
    (tmp_path / "renders" / "view_02.png").write_bytes(b"not a picture")
    with pytest.raises(CorruptResult, match="view_02"):
        read_views(tmp_path)


def test_an_asset_of_another_shape_is_refused(spec: JobSpec, tmp_path: Path) -> None:
    store_asset(spec, tmp_path)
    other = replace(spec, protocol=replace(spec.protocol, representation_params={"resolution": 8}))
    with pytest.raises(CorruptResult, match="not this job's asset"):
        render_asset(other, tmp_path)
