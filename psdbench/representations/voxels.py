"""`voxels`: a grid of density and colour in [-1, 1]³, rendered by volume rendering in plain torch.

A ray is sampled where it crosses the planes of voxel centres that lie across its main axis, so that each
sample stands for the same depth of voxels. On such a plane the trilinear interpolant of the grid needs four
voxels instead of eight (as in the shear-warp of Lacroute & Levoy, SIGGRAPH 1994). The gather is one
`embedding_bag`, its gradient one `index_add_` a channel: together much faster on CPUs than `grid_sample`.
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
        blob = config.blob_peak * (1 - radius / config.blob_radius)
        self.density = nn.Parameter(blob.clamp(min=config.blob_floor))
        self.colour = nn.Parameter(config.colour_noise * torch.randn(n, n, n, 3, generator=generator))

    def render(self, cameras: Cameras, size: int, background: Tensor) -> Render:
        """Render size x size pixels over solid colours [V, 3] or [3] in [0, 1], all on the grid's device."""
        origins, directions = (rays.reshape(-1, 3) for rays in cameras.rays(size))
        samples = plane_samples(origins, directions, self.config.resolution)
        table = torch.cat([self.density.view(-1, 1), self.colour.sigmoid().view(-1, 3)], dim=1)
        values = Interpolate.apply(table, samples.voxels, samples.weights).view(4, *samples.lengths.shape)
        thickness = functional.softplus(values[0]) * (samples.lengths * self.config.density_scale)
        stops = stopping(thickness)
        colour, opacity = (stops * values[1:]).sum(-1), -torch.expm1(-thickness.sum(-1))
        depth = (stops * samples.distances).detach().sum(-1) / opacity.detach().clamp(min=1e-6)
        colour, opacity, depth = (_image(x, len(cameras), size) for x in (colour, opacity, depth))
        rgb = colour + (1 - opacity) * background.expand(len(cameras), 3)[:, :, None, None]
        rounding = (rgb.clamp(0, 1) - rgb).detach()  # a plain clamp would cut off gradients at white
        return Render(rgb + rounding, opacity, depth)

    def variation(self) -> Tensor:
        """Sum of absolute differences of the density, before the softplus, between neighbouring voxels."""
        return torch.stack([self.density.diff(dim=axis).abs().sum() for axis in range(3)]).sum()

    def parameter_groups(self, config: OptimizeConfig) -> list[dict[str, Any]]:
        """Two groups for Adam: density and colour."""
        return [
            {"params": [self.density], "lr": config.density_learning_rate},
            {"params": [self.colour], "lr": config.colour_learning_rate},
        ]


class Interpolate(torch.autograd.Function):
    """Weighted sums of four table rows each, differentiable in the table: [K, C], [4, M], [4, M] to [C, M].

    The layouts are chosen for speed on CPUs: whole rows are read, and inner loops run along M.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        weights = weights.to(table.dtype)
        ctx.save_for_backward(rows, weights)
        ctx.length = len(table)
        bags, shares = _transposed(rows), _transposed(weights)
        return _transposed(functional.embedding_bag(bags, table, per_sample_weights=shares, mode="sum"))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, weights = ctx.saved_tensors
        table = gradient.new_zeros(len(gradient), ctx.length)
        for column, share in zip(table, gradient, strict=True):
            column.index_add_(0, rows.view(-1), (weights * share).view(-1))
        return table.t(), None, None


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


def stopping(thickness: Tensor) -> Tensor:
    """Share of a ray's light that stops at each sample, of optical thicknesses [N, S] from near to far."""
    passing = torch.exp(-functional.pad(thickness.cumsum(-1), (1, 0)))
    return passing[:, :-1] - passing[:, 1:]


def _transposed(matrix: Tensor) -> Tensor:
    """The transpose of a matrix of few rows or columns, in memory; `contiguous` takes five times as long."""
    result = matrix.new_empty(matrix.shape[::-1])
    few = 0 if matrix.shape[0] < matrix.shape[1] else 1
    for target, source in zip(result.unbind(1 - few), matrix.unbind(few), strict=True):
        target.copy_(source)
    return result


def _image(values: Tensor, views: int, size: int) -> Tensor:
    """Per-ray values [C, V * H * W] or [V * H * W] as images [V, C, H, W]."""
    return values.view(-1, views, size, size).transpose(0, 1)
