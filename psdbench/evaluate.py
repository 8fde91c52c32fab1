"""From a finished asset to pictures, and from the stored pictures to scores that anybody can repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from psdbench.cameras import Cameras, evaluation_rig, with_view_words
from psdbench.config import JobSpec
from psdbench.errors import CorruptResult, Diverged
from psdbench.export.turntable import to_picture, write_turntable
from psdbench.particles import ASSET, load_asset
from psdbench.scorers import json_values
from psdbench.store import atomic
from psdbench.trace import steps_done

if TYPE_CHECKING:
    from psdbench.representations import Representation
    from psdbench.scorers import Scorer

RENDERS, TURNTABLE = "renders", "turntable.mp4"


def render_asset(spec: JobSpec, folder: Path, device: torch.device | str = "cpu") -> list[str]:
    """Render the asset of a job folder on the evaluation rig and as a turntable; the names of the files made.

    Of several particles it is number 0. Raises Diverged when there is nothing to see on any view, CorruptResult
    when the asset cannot be read.
    """
    protocol = spec.protocol
    asset = load_asset(spec, folder / ASSET, device)
    names = write_views(asset, spec, folder)
    write_turntable(
        folder / TURNTABLE,
        asset,
        protocol.cameras,
        size=protocol.evaluate.size,
        frames=protocol.evaluate.turntable_frames,
        scale=protocol.evaluate.turntable_scale,
    )
    return [*names, TURNTABLE]


@torch.no_grad()
def write_views(asset: Representation, spec: JobSpec, folder: Path) -> list[str]:
    """Write `renders/view_00.png` and so on, one per camera of the rig, over white."""
    protocol, device = spec.protocol, next(asset.parameters()).device
    white = torch.ones(3, device=device)
    rig = evaluation_rig(protocol.cameras).to(device)
    renders = [asset.render(view, protocol.evaluate.size, white) for view in rig]
    if max(float(render.opacity.mean()) for render in renders) < protocol.optimize.empty_opacity:
        raise Diverged(steps_done(folder), "the finished scene is empty")
    names = [f"{RENDERS}/view_{index:02d}.png" for index in range(len(rig))]
    for name, render in zip(names, renders, strict=True):
        atomic.write_with(folder / name, to_picture(render.rgb[0]).save)
    return names


def read_views(folder: Path) -> Tensor:
    """The stored renders of a job folder in the order of the rig, [V, 3, H, W] in [0, 1].

    Raises CorruptResult when there are none, one cannot be read or they differ in size.
    """
    paths = sorted((folder / RENDERS).glob("view_*.png"))
    try:
        return torch.stack([read_image(path) for path in paths])
    except (OSError, RuntimeError, SyntaxError) as error:
        raise CorruptResult(
            f"the renders in {folder / RENDERS} cannot be used: {error}", "run the same command again"
        ) from error


def read_image(path: Path) -> Tensor:
    """A picture file as [3, H, W] in [0, 1], float32."""
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@torch.no_grad()
def score_renders(
    folder: Path, scorers: Sequence[Scorer], prompt: str, cameras: Cameras
) -> dict[str, list[float | None]]:
    """Score the stored renders, seen from `cameras` [V]: by scorer id one value per view, None for no score.

    A scorer that reads view words gets them in its captions. Raises CorruptResult for unusable renders.
    """
    images = read_views(folder)
    if len(images) != len(cameras):
        raise CorruptResult(
            f"{folder / RENDERS} has {len(images)} views, not {len(cameras)}", "run the same command again"
        )
    plain, worded = [prompt] * len(images), with_view_words(prompt, cameras)
    return {
        scorer.id: json_values(scorer.score(images, worded if scorer.view_words else plain, cameras))
        for scorer in scorers
    }
