"""When in the diffusion a step looks (the timestep) and how much that look weighs, w(t)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from psdbench.errors import UsageError

Weighting = Literal["sds", "uniform", "fantasia3d", "x0"]

_WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sds": lambda alpha, sigma: sigma**2,
    "uniform": lambda alpha, sigma: torch.ones_like(sigma),
    "fantasia3d": lambda alpha, sigma: alpha * sigma**2,
    "x0": lambda alpha, sigma: sigma / alpha,
}


def weight(name: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The weight w(t) of a residual in noise units, given α and σ at t; same shape as they.

    ``sds`` σ² (DreamFusion), ``uniform`` 1, ``fantasia3d`` ασ², ``x0`` σ/α: the residual becomes the distance
    between the render and the predicted clean image (MVDream). Raises UsageError for any other name.
    """
    if name not in _WEIGHTS:
        raise UsageError(f"unknown weighting '{name}'", f"use one of {', '.join(_WEIGHTS)}")
    return _WEIGHTS[name](alpha, sigma)


@dataclass(frozen=True)
class TimestepSchedule:
    """Timesteps uniform in [min, max], max falling linearly over the run (ProlificDreamer steps it down)."""

    min: float = 0.02
    """smallest timestep, share of the diffusion's length"""
    max_start: float = 0.98
    """largest timestep at the start of the run, share of the diffusion's length"""
    max_end: float = 0.5
    """largest timestep at the end of the run, share of the diffusion's length"""

    def __post_init__(self) -> None:
        if not (0 <= self.min <= self.max_start < 1 and self.min <= self.max_end < 1):
            raise UsageError(
                f"timestep range {self.min}..{self.max_start} -> {self.max_end} is empty or leaves [0, 1)",
                "choose 0 <= min <= max_start, max_end < 1",
            )

    def bounds(self, progress: float, num_timesteps: int) -> tuple[int, int]:
        """The smallest and largest timestep, both included, at a progress in [0, 1]."""
        top = self.max_start + (self.max_end - self.max_start) * progress
        return round(self.min * num_timesteps), round(top * num_timesteps)

    def sample(self, progress: float, generator: torch.Generator, num_timesteps: int) -> int:
        """Draw one timestep from a CPU generator."""
        low, high = self.bounds(progress, num_timesteps)
        return int(torch.randint(low, high + 1, (1,), generator=generator))
