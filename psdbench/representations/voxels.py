"""`voxels`: a grid of density and colour in [-1, 1]³, rendered by volume rendering in plain torch.

A ray is sampled where it crosses the planes of voxel centres that lie across its main axis, so that each
sample stands for the same depth of voxels. On such a plane the trilinear interpolant of the grid needs four
voxels instead of eight (as in the shear-warp of Lacroute & Levoy, SIGGRAPH 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from psdbench.cameras import Cameras
from psdbench.config import OptimizeConfig
from psdbench.representations import Render, Representation
from psdbench.representations.interpolate import Interpolate
from psdbench.representations.shape import COLOUR_RANGE, Shape
from psdbench.representations.volume import RaySamples, blob, composite


@dataclass(frozen=True)
class VoxelsConfig:
    """The grid and its first content."""

    resolution: int = 48
    """voxels along an edge of the cube; also the number of samples on a ray"""
    density_scale: float = 10.0
    """extinction per world unit at a softplus output of 1"""
    blob_radius: float = 0.6
    """radius at which the first density has fallen to softplus(0), world units"""
    blob_peak: float = 4.0
    """density before the softplus at the centre of the blob; it falls linearly with the radius"""
    blob_floor: float = -6.0
    """lowest density before the softplus, far from the blob"""
    colour_noise: float = 0.1
    """standard deviation of the first colours around grey, before the sigmoid"""

    def __post_init__(self) -> None:
        if not 2 <= self.resolution <= 512:
            raise ValueError("voxels.resolution must lie between 2 and 512")
        if min(self.density_scale, self.blob_radius, self.blob_peak) <= 0:
            raise ValueError("voxels.density_scale, blob_radius and blob_peak must be positive")


@dataclass(frozen=True)
class Samples:
    """Where N rays meet the grid: S = resolution samples on each, from near to far."""

    voxels: Tensor
    """flat indices of the four voxels around each sample, [4, N * S] int32"""
    weights: Tensor
    """their bilinear weights, [4, N * S], each in [0, 1], summing to 1"""
    lengths: Tensor
    """length of ray that each sample stands for, [N, S], world units; 0 outside the cube"""
    distances: Tensor
    """distance of each sample from the camera, [N, S], world units"""


class Voxels(Representation):
    """Density and colour at voxel centres; the softplus after the interpolation keeps edges sharp."""

    def __init__(self, config: VoxelsConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        n = config.resolution
        centres = (torch.arange(n) + 0.5) * (2 / n) - 1
        radius = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij")).norm(dim=0)
        first = blob(radius, config.blob_peak, config.blob_radius, config.blob_floor)
        self.density = nn.Parameter(first)
        self.colour = nn.Parameter(config.colour_noise * torch.randn(n, n, n, 3, generator=generator))

    def render(self, cameras: Cameras, size: int, background: Tensor, surface: bool = False) -> Render:
        """As the contract says; the tensors of cameras and background are on the grid's device."""
        origins, directions = (rays.reshape(-1, 3) for rays in cameras.rays(size))
        samples = plane_samples(origins, directions, self.config.resolution)
        columns = [self.density.view(-1, 1), self.colour.sigmoid().view(-1, 3)]
        if surface:
            columns.append(-torch.stack(torch.gradient(self.density), dim=-1).view(-1, 3))
        table = torch.cat(columns, dim=1)
        values = Interpolate.apply(table, samples.voxels, samples.weights).view(-1, *samples.lengths.shape)
        thickness = functional.softplus(values[0]) * (samples.lengths * self.config.density_scale)
        normals = functional.normalize(values[4:], dim=0) if surface else None
        return composite(
            RaySamples(thickness, values[1:4], samples.distances, normals), cameras, size, background
        )

    def sample(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Trilinear interpolants, as in the contract."""
        values = torch.cat([self.density[..., None], self.colour.sigmoid()], dim=-1).permute(3, 2, 1, 0)
        found = functional.grid_sample(
            values[None], points.view(1, 1, 1, -1, 3), padding_mode="border", align_corners=False
        ).view(4, -1)
        return functional.softplus(found[0]) * self.config.density_scale, found[1:].t()

    @torch.no_grad()
    def start_from(self, shape: Shape, generator: torch.Generator) -> None:
        """The solid of a shape: `blob_peak` inside, `blob_floor` outside, a straight line of four cells between."""
        config, solid = self.config, shape.solid(self.config.resolution)
        inside = (solid.depth() / 4 + 0.5).clamp(0, 1)
        self.density.copy_(config.blob_floor + (config.blob_peak - config.blob_floor) * inside)
        self.colour.copy_(solid.colours.clamp(*COLOUR_RANGE).logit())

    def variation(self) -> Tensor:
        """Sum of absolute differences of the density, before the softplus, between neighbouring voxels."""
        return torch.stack([self.density.diff(dim=axis).abs().sum() for axis in range(3)]).sum()

    def parameter_groups(self, config: OptimizeConfig) -> list[dict[str, Any]]:
        """Two groups for Adam: density and colour."""
        return [
            {"params": [self.density], "lr": config.density_learning_rate},
            {"params": [self.colour], "lr": config.colour_learning_rate},
        ]


@torch.no_grad()
def plane_samples(origins: Tensor, directions: Tensor, resolution: int) -> Samples:
    """Sample rays [N, 3] where they cross the planes of voxel centres across their main axis."""
    order = directions.abs().argmax(-1, keepdim=True) + torch.arange(3, device=directions.device)
    order %= 3  # main axis, then the two others
    origins, directions = origins.gather(-1, order), directions.gather(-1, order)
    strides = torch.tensor([resolution**2, resolution, 1], device=directions.device, dtype=torch.int32)[order]
    planes = torch.arange(resolution, device=directions.device, dtype=torch.int32)
    main = directions[:, :1]
    planes = torch.where(main > 0, planes, planes.flip(0))
    distances = ((planes + 0.5) * (2 / resolution) - 1 - origins[:, :1]) / main
    inside = distances > 0
    voxels, weights = [planes * strides[:, :1]], [torch.ones((), device=main.device)]
    for axis in (1, 2):
        place = origins[:, axis, None] + distances * directions[:, axis, None]
        inside &= place.abs() <= 1
        place = ((place + 1) * (resolution / 2) - 0.5).clamp_(0, resolution - 1)
        low = place.floor().clamp_(max=resolution - 2)
        place -= low
        stride = strides[:, axis, None]
        below = low.int() * stride
        voxels = [v + side for v in voxels for side in (below, below + stride)]
        weights = [w * share for w in weights for share in (1 - place, place)]
    lengths = inside * (2 / resolution / main.abs())
    return Samples(torch.stack(voxels).flatten(1), torch.stack(weights).flatten(1), lengths, distances)
