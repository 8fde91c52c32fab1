"""The density in space of Gaussian splats, which by themselves have an opacity only as seen from somewhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from psdbench.representations.splatting import STRONGEST

REACH = 5.0
"""standard deviations within which a Gaussian counts: 4e-6 of its peak are left beyond"""
CELLS = 8
"""along an edge of the cube: the points of a cell are looked up together, with the Gaussians that reach into it"""
PAIRS = 2**22
"""of point and Gaussian at a time"""


def splat_field(
    points: Tensor, means: Tensor, axes: Tensor, opacities: Tensor, colours: Tensor
) -> tuple[Tensor, Tensor]:
    """Extinction per world unit [M] and colours [M, 3] in [0, 1] at points [M, 3] in the cube [-1, 1]³.

    The optical thickness through the middle of a round Gaussian is that of its opacity. N Gaussians: means [N, 3],
    axes [N, 3, 3] whose columns are as long as the standard deviations, opacities [N], colours [N, 3].
    """
    inverse, lengths = torch.linalg.inv(axes), axes.norm(dim=1)
    thickness = -torch.log1p(-opacities.clamp(max=STRONGEST))
    peaks = thickness / (math.tau**0.5 * lengths.log().mean(-1).exp())
    reach = REACH * axes.norm(dim=2)
    extinction, mixed = points.new_zeros(len(points)), points.new_zeros(len(points), 3)
    for part in _cells(points):
        here = points[part]
        near = ((means + reach >= here.amin(0)) & (means - reach <= here.amax(0))).all(1).nonzero().view(-1)
        for rows in part.split(max(1, PAIRS // max(1, len(near)))):
            offsets = points[rows][:, None] - means[near]
            local = (inverse[near] @ offsets[..., None])[..., 0]
            shares = peaks[near] * torch.exp(-0.5 * local.square().sum(-1))
            extinction[rows], mixed[rows] = shares.sum(1), shares @ colours[near]
    return extinction, mixed / extinction.clamp(min=1e-9)[:, None]


def _cells(points: Tensor) -> tuple[Tensor, ...]:
    """Indices of the points of each cell that has any."""
    x, y, z = ((points + 1) * (CELLS / 2)).long().clamp(0, CELLS - 1).unbind(-1)
    cell, order = ((x * CELLS + y) * CELLS + z).sort(stable=True)
    return order.split(cell.unique_consecutive(return_counts=True)[1].tolist())
