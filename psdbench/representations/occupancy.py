"""Which cells of the cube [-1, 1]³ hold anything: samples elsewhere are never evaluated.

As in Instant-NGP (arXiv 2201.05989, appendix E.2): each cell remembers the largest density seen in it, which decays,
so that a cell is left only after it was found empty several times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

DECAY = 0.7
"""of what a cell remembers, at each update; the paper's 0.95 is for runs of ten thousands of steps"""


class Occupancy(nn.Module):
    """Remembered extinctions on a grid of cells; the buffer is part of the asset."""

    peak: Tensor

    def __init__(self, resolution: int, threshold: float) -> None:
        super().__init__()
        self.resolution, self.threshold = resolution, threshold
        self.register_buffer("peak", torch.full((resolution,) * 3, float("inf")))

    @torch.no_grad()
    def update(self, extinction: Callable[[Tensor], Tensor], generator: torch.Generator | None) -> None:
        """Look at one point of each cell, drawn at random, or its centre without a generator.

        `extinction` gives values [M] of points [M, 3], per world unit.
        """
        n = self.resolution
        ticks = torch.arange(n, dtype=torch.float32)
        low = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).view(-1, 3)
        shift = 0.5 if generator is None else torch.rand(low.shape, generator=generator)
        points = ((low + shift) * (2 / n) - 1).to(self.peak.device)
        now = extinction(points).view(n, n, n)
        self.peak.copy_(now if generator is None else torch.maximum(now, self.peak * DECAY))

    @torch.no_grad()
    def contains(self, points: Tensor) -> Tensor:
        """Whether points [..., 3] in the cube lie in a cell, or beside one, with more than the threshold: bool."""
        n = self.resolution
        kept = (
            torch.nn.functional.max_pool3d(self.peak[None], 3, stride=1, padding=1).view(-1) > self.threshold
        )
        cell = ((points + 1) * (n / 2)).long().clamp_(0, n - 1)
        flat = (cell[..., 0] * n + cell[..., 1]) * n + cell[..., 2]
        return kept[flat]
