"""Turntables: a video that plays everywhere and shows the object from all around."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from psdbench.camera_config import CameraConfig
from psdbench.errors import EnvironmentProblem
from psdbench.export.turntable import FRAMES_PER_SECOND, render_orbit, to_picture, write_mp4, write_turntable
from psdbench.representations.voxels import Voxels, VoxelsConfig


@pytest.fixture
def asset() -> Voxels:
    """A ball whose front (+x) half is red and whose back half is blue."""
    voxels = Voxels(VoxelsConfig(resolution=16, density_scale=50.0), torch.Generator().manual_seed(0))
    with torch.no_grad():
        voxels.density[voxels.density < 0] = -30.0
        voxels.colour.fill_(-5.0)
        voxels.colour[8:, :, :, 0] = 5.0
        voxels.colour[:8, :, :, 2] = 5.0
    return voxels


def frames_of(path: Path) -> tuple[dict[str, object], np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def test_video_is_plain_h264_with_all_frames(asset: Voxels, tmp_path: Path) -> None:
    path = tmp_path / "turntable.mp4"
    write_turntable(path, asset, CameraConfig(), size=32, frames=24, scale=4)
    meta, frames = frames_of(path)
    assert meta["codec"] == "h264"
    assert str(meta["pix_fmt"]).startswith("yuv420p")
    assert meta["fps"] == FRAMES_PER_SECOND
    assert frames.shape == (24, 128, 128, 3)
    front, back = frames[0, 64, 64].astype(int), frames[12, 64, 64].astype(int)
    assert front[0] > 150 > 100 > front[2]
    assert back[2] > 150 > 100 > back[0]
    assert frames[:, :4, :4].min() > 240  # white behind
    assert [p.name for p in tmp_path.iterdir()] == ["turntable.mp4"]


def test_orbit_starts_at_the_front_and_turns(asset: Voxels) -> None:
    pictures = [np.asarray(p).astype(int) for p in render_orbit(asset, CameraConfig(), 16, 4)]
    assert pictures[0][8, 8, 0] > 200
    assert pictures[2][8, 8, 2] > 200
    assert (
        pictures[1][8, 3, 0] > pictures[1][8, 12, 0] + 100
        or pictures[1][8, 12, 0] > pictures[1][8, 3, 0] + 100
    )


def test_odd_sizes_are_encoded(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    write_mp4(path, [Image.new("RGB", (15, 17), (200, 30, 30))] * 3, scale=1)
    assert frames_of(path)[1].shape == (3, 16, 14, 3)


def test_pictures_are_rounded_not_truncated() -> None:
    image = torch.tensor([0.0, 0.999, 1.0])[:, None, None].expand(3, 2, 2)
    assert np.asarray(to_picture(image))[0, 0].tolist() == [0, 255, 255]


def test_an_unwritable_folder_is_said_plainly(asset: Voxels, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentProblem):
        write_turntable(tmp_path / "file" / "t.mp4", asset, CameraConfig(), size=8, frames=2, scale=1)
