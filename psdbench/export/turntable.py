"""Turntable videos: the camera goes once around the object; H.264 in an mp4 that every player opens."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from psdbench.cameras import CameraConfig, orbit
from psdbench.representations import Representation
from psdbench.store import atomic

FRAMES_PER_SECOND = 12


def write_turntable(
    path: Path, asset: Representation, cameras: CameraConfig, *, size: int, frames: int, scale: int
) -> None:
    """Render `frames` views around the object over white and write them as an mp4, enlarged `scale` times.

    Raises EnvironmentProblem when the file cannot be written.
    """
    with atomic.replacing(path) as temporary:
        write_mp4(temporary, render_orbit(asset, cameras, size, frames), scale)


@torch.no_grad()
def render_orbit(asset: Representation, cameras: CameraConfig, size: int, frames: int) -> list[Image.Image]:
    """One picture per frame, over white, counter-clockwise from the front at the rig's elevation."""
    device = next(asset.parameters()).device
    views = orbit(frames, cameras.rig_elevation, cameras).to(device)
    white = torch.ones(3, device=device)
    return [to_picture(asset.render(view, size, white).rgb[0]) for view in views]


def to_picture(image: Tensor) -> Image.Image:
    """An image [3, H, W] in [0, 1] as 8-bit RGB."""
    return Image.fromarray(image.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())


def write_mp4(path: Path, pictures: list[Image.Image], scale: int) -> None:
    """Encode pictures of one size as H.264, 4:2:0, enlarged `scale` times; odd sides lose a pixel line."""
    import imageio_ffmpeg

    width, height = (side * scale // 2 * 2 for side in pictures[0].size)
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=FRAMES_PER_SECOND,
        codec="libx264",
        pix_fmt_in="rgb24",
        pix_fmt_out="yuv420p",
        quality=8,
        macro_block_size=2,
        output_params=["-threads", "1", "-movflags", "+faststart", "-map_metadata", "-1", "-bitexact"],
    )
    writer.send(None)
    try:
        for picture in pictures:
            writer.send(picture.resize((width, height), Image.Resampling.LANCZOS).tobytes())
    finally:
        writer.close()
