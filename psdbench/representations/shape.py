"""A shape to start from: coloured points on a surface, and the solid inside it on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

COLOUR_RANGE = (0.02, 0.98)
"""colours that a sigmoid takes over: pure ones would leave it without a gradient"""


@dataclass(frozen=True)
class Shape:
    """Points on the surface of something that lies in the cube [-1, 1]³; world axes."""

    points: Tensor
    """[N, 3], world units"""
    colours: Tensor
    """[N, 3] in [0, 1]"""

    def __post_init__(self) -> None:
        if self.points.shape != self.colours.shape or self.points.shape[1:] != (3,) or not len(self.points):
            raise ValueError("a shape has at least one point, and as many colours as points")

    def solid(self, resolution: int) -> Solid:
        """The cells that hold points, filled where they enclose others; each takes the colour of the nearest point.

        A hole in the surface that is wider than two cells lets the inside out: then the surface alone is solid.
        """
        from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes
        from scipy.spatial import KDTree

        cells = ((self.points + 1) * (resolution / 2)).long().clamp(0, resolution - 1).numpy()
        shell = np.zeros((resolution,) * 3, dtype=bool)
        shell[tuple(cells.T)] = True
        ticks = (np.arange(resolution) + 0.5) * (2 / resolution) - 1
        centres = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
        nearest = KDTree(self.points.numpy()).query(centres.reshape(-1, 3))[1]
        colours = self.colours[torch.from_numpy(nearest)].view(resolution, resolution, resolution, 3)
        around = np.ones((3, 3, 3), dtype=bool)
        filled = binary_fill_holes(binary_dilation(shell, around))
        return Solid(torch.from_numpy(binary_erosion(filled, around, border_value=1)), colours)

    def neighbour_distances(self, chosen: Tensor, count: int = 3) -> Tensor:
        """Mean distance of each of the `chosen` points to the `count` nearest others of them, [M], world units."""
        from scipy.spatial import KDTree

        points = self.points[chosen].numpy()
        near = min(count + 1, len(points))
        distances = KDTree(points).query(points, k=[*range(2, near + 1)] or [1])[0]
        return torch.from_numpy(distances).float().mean(1).clamp(min=1e-4)


@dataclass(frozen=True)
class Solid:
    """A shape on a grid of cells over the cube [-1, 1]³."""

    inside: Tensor
    """[R, R, R] bool"""
    colours: Tensor
    """of the nearest point of the surface, [R, R, R, 3] in [0, 1]"""

    def depth(self) -> Tensor:
        """Signed distance to the surface in cells, positive inside, [R, R, R]; half a cell on either side of it."""
        from scipy.ndimage import distance_transform_edt

        inside = self.inside.numpy()
        if not inside.any() or inside.all():
            return torch.where(self.inside, 1.0, -1.0) * len(inside)
        signed = distance_transform_edt(inside) - distance_transform_edt(~inside)
        return torch.from_numpy(signed - np.sign(signed) / 2).float()
