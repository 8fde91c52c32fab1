"""Multiresolution hash encoding in plain torch: Instant-NGP (arXiv 2201.05989), section 3.

Each level is a grid over the cube [-1, 1]³ whose vertices own rows of a table: coarse levels one row each, fine
levels, with more vertices than rows, one that a hash picks. A point's features are the trilinear interpolants
of all levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from psdbench.representations.interpolate import Interpolate

PRIMES = (1, 2654435761, 805459861)
"""of the paper's hash, equation 4"""
FIRST_SPREAD = 1e-4
"""the first features are uniform in ± this, as in the paper's section 4"""


@dataclass(frozen=True)
class Level:
    """One grid of the encoding."""

    resolution: int
    """cells along an edge"""
    rows: int
    """rows of its table"""
    offset: int
    """its first row in the table of all levels"""

    @property
    def dense(self) -> bool:
        """Whether every vertex has a row of its own."""
        return (self.resolution + 1) ** 3 <= self.rows


def make_levels(count: int, coarsest: int, finest: int, rows: int) -> tuple[Level, ...]:
    """`count` levels from `coarsest` to `finest` cells along an edge, in equal ratios, of at most `rows` rows."""
    growth = (finest / coarsest) ** (1 / max(1, count - 1))
    levels: list[Level] = []
    for index in range(count):
        resolution = math.floor(coarsest * growth**index + 1e-9)
        offset = levels[-1].offset + levels[-1].rows if levels else 0
        levels.append(Level(resolution, min(rows, (resolution + 1) ** 3), offset))
    return tuple(levels)


class HashEncoding(nn.Module):
    """The features of points, differentiable in the table."""

    def __init__(self, levels: tuple[Level, ...], features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.levels = levels
        rows = sum(level.rows for level in levels)
        self.table = nn.Parameter((torch.rand(rows, features, generator=generator) * 2 - 1) * FIRST_SPREAD)

    def forward(self, points: Tensor, shown: int) -> Tensor:
        """Features [F, K, M] of the K = `shown` coarsest levels at points [M, 3] in [-1, 1]."""
        with torch.no_grad():
            pairs = [corners(points, level) for level in self.levels[:shown]]
            rows = torch.cat([rows for rows, _ in pairs], dim=1)
            weights = torch.cat([weights for _, weights in pairs], dim=1)
        return Interpolate.apply(self.table, rows, weights).view(-1, shown, len(points))


def corners(points: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """Table rows (int32) and trilinear weights of the eight vertices around points [M, 3]: [8, M] each."""
    n = level.resolution
    places = ((points + 1) * (n / 2)).clamp(0, n)
    low = places.floor().clamp(max=n - 1)
    index, parts = low.long().unbind(-1), (places - low).unbind(-1)
    strides = ((n + 1) ** 2, n + 1, 1) if level.dense else PRIMES
    sides = [(i * stride, (i + 1) * stride) for i, stride in zip(index, strides, strict=True)]
    shares = [(1 - part, part) for part in parts]
    rows, weights = [], []
    for corner in range(8):
        (x, y, z), (u, v, w) = (
            [axis[corner >> bit & 1] for bit, axis in enumerate(axes)] for axes in (sides, shares)
        )
        row = x + y + z if level.dense else (x ^ y ^ z) % level.rows
        rows.append((row + level.offset).int())  # half of the memory, which is what limits a render's size
        weights.append(u * v * w)
    return torch.stack(rows), torch.stack(weights)
