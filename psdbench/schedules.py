"""When in the diffusion a step looks (the timestep) and how much that look weighs, w(t)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from psdbench.errors import UsageError

if TYPE_CHECKING:
    from psdbench.config import OptimizeConfig

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
    """Timesteps uniform in [min, max], bounds that fall linearly over the run, or over its first part.

    ProlificDreamer steps the upper one down; MVDream lets both fall from 0.98 over the first 80 %.
    """

    min: float = 0.02
    """smallest timestep, share of the diffusion's length"""
    max_start: float = 0.98
    """largest timestep at the start of the run, share of the diffusion's length"""
    max_end: float = 0.5
    """largest timestep at the end of the run, share of the diffusion's length"""
    min_start: float | None = None
    """smallest timestep at the start of the run; none: `min` all along"""
    anneal: float = 1.0
    """share of the run after which the bounds stay"""

    def __post_init__(self) -> None:
        first = self.min if self.min_start is None else self.min_start
        if not 0 < self.anneal <= 1:
            raise UsageError(
                f"timesteps cannot anneal over {self.anneal} of a run", "choose a share in (0, 1]"
            )
        if not (
            0 <= self.min <= self.max_start < 1
            and self.min <= self.max_end < 1
            and 0 <= first <= self.max_start
        ):
            raise UsageError(
                f"timestep range {self.min}..{self.max_start} -> {self.max_end} is empty or leaves [0, 1)",
                "choose 0 <= min <= max_start, max_end < 1",
            )

    @classmethod
    def of(cls, config: OptimizeConfig) -> TimestepSchedule:
        """The one of a protocol."""
        return cls(
            min=config.timestep_min,
            max_start=config.timestep_max_start,
            max_end=config.timestep_max_end,
            min_start=config.timestep_min_start,
            anneal=config.timestep_anneal,
        )

    def bounds(self, progress: float, num_timesteps: int) -> tuple[int, int]:
        """The smallest and largest timestep, both included, at a progress in [0, 1]."""
        done = min(progress / self.anneal, 1.0)
        top = self.max_start + (self.max_end - self.max_start) * done
        first = self.min if self.min_start is None else self.min_start
        return round((first + (self.min - first) * done) * num_timesteps), round(top * num_timesteps)

    def sample(self, progress: float, generator: torch.Generator, num_timesteps: int) -> int:
        """Draw one timestep from a CPU generator."""
        low, high = self.bounds(progress, num_timesteps)
        return int(torch.randint(low, high + 1, (1,), generator=generator))
