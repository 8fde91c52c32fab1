"""Splatting of 3D Gaussians: 3DGS (arXiv 2308.04079), as a reference in plain torch and on CUDA by `gsplat`.

The rules are those of both: the first-order projection of EWA splatting with 0.3 square pixels added to each
covariance, opacities below 1/255 left out and cut at 0.999, blending from near to far by the depth of the centres.
The reference works tile by tile on any device and leaves out only Gaussians that stay below 1/255 on all of a
tile, so that it equals compositing of all Gaussians at every pixel.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.cameras import Cameras

TILE = 16
"""pixels along the side of a tile"""
BLUR = 0.3
"""added to the variances on the image, square pixels: no Gaussian falls between pixels"""
FAINTEST, STRONGEST = 1 / 255, 0.999
"""opacities that count"""
NEAR = 0.01
"""smallest depth that is drawn, world units"""
MARGIN = 1.3
"""as far out as so many half widths of the image, the projection is linearised; beyond, it is taken from there"""


@dataclass(frozen=True)
class Splats:
    """N Gaussians on the images of V cameras; pixel x is to the right, y down, pixel centres at halves."""

    centres: Tensor
    """[V, N, 2], pixels"""
    conics: Tensor
    """inverse covariances as xx, xy, yy, [V, N, 3], per square pixel"""
    reach: Tensor
    """half sides of the rectangle outside which the opacity is below 1/255, [V, N, 2], pixels; 0: not drawn"""
    depths: Tensor
    """of the centres along the optical axis, [V, N], world units"""


@dataclass(frozen=True)
class Blended:
    """Blended features of V images, and what tells how each Gaussian took part."""

    features: Tensor
    """sums weighted by the light that each Gaussian stops, [V, C, H, W]"""
    opacity: Tensor
    """[V, 1, H, W] in [0, 1]"""
    centres: Tensor
    """[V, N, 2], pixels; their gradient is kept"""
    seen: Tensor
    """which Gaussians are on which image, [V, N] bool"""


def blend(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    cameras: Cameras,
    size: int,
) -> Blended:
    """Blend features [V, N, C] of Gaussians: means, scales [N, 3], unit quaternions [N, 4], opacities [N]."""
    if means.is_cuda and importlib.util.find_spec("gsplat"):
        return _by_gsplat(means, rotations, scales, opacities, features, cameras, size)
    axes = rotation_matrices(rotations) * scales[:, None, :]
    splats = project(means, axes @ axes.transpose(1, 2), opacities, cameras, size)
    if splats.centres.requires_grad:
        splats.centres.retain_grad()
    images = [
        _blend_view(*view, opacities, size)
        for view in zip(splats.centres, splats.conics, splats.reach, splats.depths, features, strict=True)
    ]
    values, seen = torch.stack(images), (splats.reach > 0).all(-1)
    return Blended(values[:, 1:], values[:, :1], splats.centres, seen)


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of unit quaternions w, x, y, z [N, 4]."""
    w, x, y, z = quaternions.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).view(-1, 3, 3)


def view_matrices(cameras: Cameras) -> Tensor:
    """World-to-camera matrices [V, 4, 4] of the convention x right, y down, z forward."""
    right, up, backward = cameras.axes()
    turn = torch.stack([right, -up, -backward], dim=1)
    matrices = torch.zeros(len(cameras), 4, 4, device=turn.device, dtype=turn.dtype)
    matrices[:, :3, :3] = turn
    matrices[:, :3, 3] = -(turn @ cameras.positions[:, :, None])[:, :, 0]
    matrices[:, 3, 3] = 1
    return matrices


def focal_lengths(cameras: Cameras, size: int) -> Tensor:
    """[V], pixels."""
    return size / 2 / torch.tan(torch.deg2rad(cameras.fov) / 2)


def project(means: Tensor, covariances: Tensor, opacities: Tensor, cameras: Cameras, size: int) -> Splats:
    """Gaussians [N, 3], [N, 3, 3] on the images of cameras."""
    matrices, focal = view_matrices(cameras).to(means), focal_lengths(cameras, size).to(means)[:, None]
    turn, shift = matrices[:, :3, :3], matrices[:, :3, 3]
    x, y, z = (torch.einsum("vij,nj->vni", turn, means) + shift[:, None]).unbind(-1)
    drawn = (z > NEAR) & (opacities > FAINTEST)
    z = torch.where(drawn, z, torch.ones_like(z))
    centres = torch.stack([x, y], dim=-1) * (focal / z)[..., None] + size / 2
    limit = MARGIN * size / 2 / focal
    slope_x, slope_y = (torch.minimum(torch.maximum(axis / z, -limit), limit) for axis in (x, y))
    zero = torch.zeros_like(z)
    jacobian = torch.stack([focal / z, zero, -focal / z * slope_x, zero, focal / z, -focal / z * slope_y], -1)
    flat = jacobian.view(*z.shape, 2, 3) @ turn[:, None]
    covariance = flat @ covariances @ flat.transpose(2, 3)
    xx, xy, yy = covariance[..., 0, 0] + BLUR, covariance[..., 0, 1], covariance[..., 1, 1] + BLUR
    determinant = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], dim=-1) / determinant[..., None]
    widths = 2 * torch.log(opacities.clamp(min=FAINTEST) / FAINTEST)
    reach = (torch.stack([xx, yy], dim=-1) * widths[:, None]).sqrt() * drawn[..., None]
    return Splats(centres, conics, reach.detach(), z.detach())


def _blend_view(
    centres: Tensor,
    conics: Tensor,
    reach: Tensor,
    depths: Tensor,
    features: Tensor,
    opacities: Tensor,
    size: int,
) -> Tensor:
    """Opacity and features [1 + C, size, size] of one view."""
    order = depths.argsort(stable=True)
    table = torch.cat([centres, conics, opacities[:, None], features], dim=1)
    low, high = (centres - reach).detach()[order], (centres + reach).detach()[order]
    drawn = (reach > 0).all(-1)[order]
    rows = []
    for top in range(0, size, TILE):
        bottom = min(top + TILE, size)
        strip = drawn & (high[:, 1] >= top) & (low[:, 1] <= bottom)
        tiles = []
        for left in range(0, size, TILE):
            right = min(left + TILE, size)
            here = order[strip & (high[:, 0] >= left) & (low[:, 0] <= right)]
            pixels = _pixel_centres(left, right, top, bottom, table)
            values = composite_pixels(pixels, table.index_select(0, here))
            tiles.append(values.t().view(-1, bottom - top, right - left))
        rows.append(torch.cat(tiles, dim=2))
    return torch.cat(rows, dim=1)


def _pixel_centres(left: int, right: int, top: int, bottom: int, like: Tensor) -> Tensor:
    x, y = (torch.arange(a, b).to(like) + 0.5 for a, b in ((left, right), (top, bottom)))
    grid = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid[1], grid[0]], dim=-1).view(-1, 2)


def composite_pixels(pixels: Tensor, splats: Tensor) -> Tensor:
    """Opacity and features [P, 1 + C] at pixels [P, 2] of splats from near to far.

    A splat is a row [6 + C]: centre, conic, opacity, features.
    """
    dx, dy = (pixels[:, axis, None] - splats[:, axis] for axis in (0, 1))
    xx, xy, yy = splats[:, 2:5].unbind(1)
    alpha = splats[:, 5] * torch.exp(-(0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy))
    alpha = torch.where(alpha >= FAINTEST, alpha.clamp(max=STRONGEST), torch.zeros_like(alpha))
    passing = functional.pad(torch.log1p(-alpha).cumsum(1), (1, 0))
    weights = alpha * torch.exp(passing[:, :-1])
    return torch.cat([-torch.expm1(passing[:, -1:]), weights @ splats[:, 6:]], dim=1)


def _by_gsplat(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    cameras: Cameras,
    size: int,
) -> Blended:
    """The same by the CUDA kernels of gsplat."""
    from gsplat import rasterization

    focal, lenses = focal_lengths(cameras, size), torch.zeros(len(cameras), 3, 3, device=means.device)
    lenses[:, 0, 0] = lenses[:, 1, 1] = focal
    lenses[:, :2, 2], lenses[:, 2, 2] = size / 2, 1
    values, opacity, facts = rasterization(
        means, rotations, scales, opacities, features, view_matrices(cameras), lenses, size, size,
        near_plane=NEAR, eps2d=BLUR, packed=False, tile_size=TILE, render_mode="RGB",
    )  # fmt: skip
    centres = facts["means2d"]
    if centres.requires_grad:
        centres.retain_grad()
    radii = facts["radii"]
    seen = (radii > 0).all(-1) if radii.dim() == 3 else radii > 0
    return Blended(values.permute(0, 3, 1, 2), opacity.permute(0, 3, 1, 2), centres, seen)


def spacing(count: int, radius: float) -> float:
    """Side of the cube that each of `count` points in a ball has for itself, world units."""
    return radius * (4 / 3 * math.pi / count) ** (1 / 3)
