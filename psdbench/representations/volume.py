"""Volume rendering along rays: what `voxels` and `hashgrid` share once density and colour of samples are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.cameras import Cameras
from psdbench.representations import Render, Surface, over


@dataclass(frozen=True)
class RaySamples:
    """N rays with S samples each, from near to far."""

    thickness: Tensor
    """optical thickness, extinction times length, [N, S], at least 0"""
    colours: Tensor
    """[3, N, S] in [0, 1]"""
    distances: Tensor
    """from the camera, [N, S], world units"""
    normals: Tensor | None = None
    """unit vectors to where the density falls, [3, N, S]; only for a surface"""


def composite(samples: RaySamples, cameras: Cameras, size: int, background: Tensor) -> Render:
    """The render of size x size rays per camera, in the order of `Cameras.rays`, over a background as in `over`."""
    views = len(cameras)
    stops = stopping(samples.thickness)
    colour, opacity = (stops * samples.colours).sum(-1), -torch.expm1(-samples.thickness.sum(-1))
    depth = (stops * samples.distances).detach().sum(-1) / opacity.detach().clamp(min=1e-6)
    surface = _surface(samples, stops, opacity, cameras, size) if samples.normals is not None else None
    colour, opacity, depth = (image(x, views, size) for x in (colour, opacity, depth))
    return Render(over(colour, opacity, background), opacity, depth, surface)


def _surface(samples: RaySamples, stops: Tensor, opacity: Tensor, cameras: Cameras, size: int) -> Surface:
    assert samples.normals is not None
    _, directions = cameras.rays(size)
    facing = (samples.normals * directions.reshape(-1, 3).t()[:, :, None]).sum(0)
    share = stops / opacity.clamp(min=1e-6)[:, None]
    mean = (share * samples.distances).sum(-1, keepdim=True)
    parts = (
        (stops * samples.normals).sum(-1),
        (stops.detach() * facing.clamp(min=0).square()).sum(-1),
        (share * (samples.distances - mean).square()).sum(-1),
    )
    return Surface(*(image(part, len(cameras), size) for part in parts))


def stopping(thickness: Tensor) -> Tensor:
    """Share of a ray's light that stops at each sample, of optical thicknesses [N, S] from near to far."""
    passing = torch.exp(-functional.pad(thickness.cumsum(-1), (1, 0)))
    return passing[:, :-1] - passing[:, 1:]


def image(values: Tensor, views: int, size: int) -> Tensor:
    """Per-ray values [C, V * H * W] or [V * H * W] as images [V, C, H, W]."""
    return values.view(-1, views, size, size).transpose(0, 1)


def blob(distance: Tensor, peak: float, radius: float, floor: float) -> Tensor:
    """A first density before the softplus: `peak` at the centre, falling linearly, 0 at `radius`, at least `floor`.

    The shape of Magic3D's (arXiv 2211.10440, section 4.1): an optimisation starts from something to carve.
    """
    return (peak * (1 - distance / radius)).clamp(min=floor)
