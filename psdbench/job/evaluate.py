"""From a finished asset to pictures, and from the stored pictures to scores that anybody can repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from psdbench.cameras import Cameras, evaluation_rig
from psdbench.config import JobSpec, Protocol
from psdbench.errors import CorruptResult, Diverged
from psdbench.export.turntable import to_picture, write_turntable
from psdbench.optimizer.particles import ASSET, load_asset
from psdbench.optimizer.trace import steps_done
from psdbench.scorers.asset import AssetViews
from psdbench.scorers.pictures import read_picture
from psdbench.store import atomic
from psdbench.store.table import GEOMETRY, RENDERS

if TYPE_CHECKING:
    from psdbench.optimizer.loop import Optimisation
    from psdbench.representations import Render, Representation

TURNTABLE = "turntable.mp4"


def render_asset(spec: JobSpec, folder: Path, device: torch.device | str = "cpu") -> list[str]:
    """Render the asset of a job folder on the evaluation rig and as a turntable; the names of the files made.

    Of several particles it is number 0. Raises Diverged when there is nothing to see on any view, CorruptResult
    when the asset cannot be read.
    """
    protocol = spec.protocol
    asset = load_asset(spec, folder / ASSET, device)
    views = rig_views(asset, protocol)
    if max(float(view.opacity.mean()) for view in views) < protocol.optimize.empty_opacity:
        raise Diverged(steps_done(folder), "the finished scene is empty")
    names = write_renders(folder, views)
    write_turntable(
        folder / TURNTABLE,
        asset,
        protocol.cameras,
        size=protocol.evaluate.size,
        frames=protocol.evaluate.turntable_frames,
        scale=protocol.evaluate.turntable_scale,
    )
    return [*names, TURNTABLE]


def draw_snapshot(place: Path, run: Optimisation) -> None:
    """Render the asset of a running job, of several particles number 0, into the folder of a snapshot."""
    write_renders(place, rig_views(run.particles[0].asset, run.spec.protocol))


@torch.no_grad()
def rig_views(asset: Representation, protocol: Protocol) -> list[Render]:
    """The asset over white from each camera of the evaluation rig."""
    device = next(asset.parameters()).device
    white = torch.ones(3, device=device)
    return [
        asset.render(view, protocol.evaluate.size, white)
        for view in evaluation_rig(protocol.cameras).to(device)
    ]


def write_renders(folder: Path, views: Sequence[Render]) -> list[str]:
    """Write `renders/view_00.png` and so on, one for each view, and their geometry; the names of the files."""
    names = write_pictures(folder, [to_picture(view.rgb[0]) for view in views])
    opacity = torch.cat([view.opacity for view in views])
    write_geometry(folder, opacity, torch.cat([view.depth for view in views]))
    return [*names, GEOMETRY]


def write_pictures(folder: Path, pictures: Sequence[Image.Image]) -> list[str]:
    """Write the views of a job folder in the order of the rig; their names."""
    names = [f"{RENDERS}/view_{index:02d}.png" for index in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        atomic.write_with(folder / name, picture.save)
    return names


def write_geometry(folder: Path, opacity: Tensor, depth: Tensor | None = None) -> None:
    """Write opacity and, where it is known, depth [V, 1, H, W] of the views: to 1/255 and to 0.1 %."""
    tensors = {"opacity": opacity[:, 0].mul(255).round().byte()}
    if depth is not None:
        tensors["depth"] = depth[:, 0].half()
    atomic.write_tensors(folder / GEOMETRY, tensors)


def read_views(folder: Path) -> Tensor:
    """The stored renders of a job folder in the order of the rig, [V, 3, H, W] in [0, 1].

    Raises CorruptResult when there are none, one cannot be read or they differ in size.
    """
    paths = sorted((folder / RENDERS).glob("view_*.png"))
    try:
        return torch.stack([read_picture(path) for path in paths])
    except RuntimeError as error:
        raise CorruptResult(
            f"the renders in {folder / RENDERS} cannot be used: {error}", "run the same command again"
        ) from error


def read_asset_views(folder: Path, prompt: str, cameras: Cameras | None) -> AssetViews:
    """All that a job folder stores of how its asset looks, from `cameras` [V] where they are known.

    Depth and opacity are None where none were stored. Raises CorruptResult for files that cannot be used.
    """
    images = read_views(folder)
    if cameras is not None and len(images) != len(cameras):
        raise CorruptResult(
            f"{folder / RENDERS} has {len(images)} views, not {len(cameras)}", "run the same command again"
        )
    try:
        stored = load_file(folder / GEOMETRY) if (folder / GEOMETRY).exists() else {}
    except (SafetensorError, OSError) as error:
        raise CorruptResult(
            f"{folder / GEOMETRY} cannot be used: {error}", "run the same command again"
        ) from error
    if any(each.shape != images[:, 0].shape for each in stored.values()):
        raise CorruptResult(f"{folder / GEOMETRY} is not that of the views", "run the same command again")
    opacity, depth = stored.get("opacity"), stored.get("depth")
    return AssetViews(
        prompt,
        images,
        cameras,
        None if opacity is None else opacity[:, None].float() / 255,
        None if depth is None else depth[:, None].float(),
    )
