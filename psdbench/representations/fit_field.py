"""Fitting a neural field to a solid, so that an optimisation can start from a given shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from psdbench.representations.shape import COLOUR_RANGE

if TYPE_CHECKING:
    from psdbench.representations.hashgrid import HashGrid
    from psdbench.representations.shape import Solid

STEPS = 300
BATCH = 4096
"""points per step, half of them near the surface"""
RATE = 0.02
"""Adam's first step; it falls to 0 along a straight line"""


@torch.enable_grad()
def fit_field(asset: HashGrid, solid: Solid, generator: torch.Generator) -> None:
    """Least squares of density before the softplus and of colour near and inside the solid, by Adam."""
    config = asset.config
    depth = solid.depth()
    density = config.blob_floor + (config.blob_peak - config.blob_floor) * (depth / 4 + 0.5).clamp(0, 1)
    target = torch.cat([density[..., None], solid.colours.clamp(*COLOUR_RANGE)], dim=-1)
    target = target.permute(3, 2, 1, 0)[None]
    near = (depth.abs() < 3).nonzero()
    adam = torch.optim.Adam(asset.parameters(), lr=RATE, eps=1e-15)
    for step in range(STEPS):
        adam.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        points = torch.rand(BATCH, 3, generator=generator) * 2 - 1
        if len(near):
            cells = near[torch.randint(len(near), (BATCH // 2,), generator=generator)]
            jitter = torch.rand(BATCH // 2, 3, generator=generator)
            points[: BATCH // 2] = (cells + jitter) * (2 / len(depth)) - 1
        wanted = functional.grid_sample(
            target, points.view(1, 1, 1, -1, 3), padding_mode="border", align_corners=False
        )
        wanted = wanted.view(4, -1)
        raw = asset.field(points)
        coloured = (wanted[0] > config.blob_floor).float()
        loss = (raw[0] - wanted[0]).square().mean()
        loss = loss + 10 * (coloured * (raw[1:].sigmoid() - wanted[1:]).square()).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
