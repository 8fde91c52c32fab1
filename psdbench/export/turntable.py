"""Turntable videos: the camera goes once around the object; H.264 in an mp4 that every player opens."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from psdbench.camera_config import CameraConfig
from psdbench.cameras import orbit
from psdbench.representations import Representation
from psdbench.store import atomic

FRAMES_PER_SECOND = 12
QUALITY = 10
"""x264's constant rate factor, 0 for lossless to 51: no loss that is seen"""


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
    """Encode pictures of one size as H.264, 4:2:0, enlarged `scale` times; odd sides lose a pixel line.

    Raises OSError when ffmpeg cannot write the file.
    """
    import imageio_ffmpeg

    width, height = (side * scale // 2 * 2 for side in pictures[0].size)
    frames = (picture.resize((width, height), Image.Resampling.LANCZOS).tobytes() for picture in pictures)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{FRAMES_PER_SECOND}"]
    codec = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", f"{QUALITY}", "-threads", "1"]
    container = ["-movflags", "+faststart", "-map_metadata", "-1", "-bitexact"]
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *source, "-i", "-"]
    done = subprocess.run(
        [*ffmpeg, *codec, *container, str(path)], input=b"".join(frames), capture_output=True, check=False
    )
    if done.returncode or done.stderr:  # the writer of imageio_ffmpeg takes a full disk for success
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise OSError(errno.EIO, f"ffmpeg: {reason[-1]}")
