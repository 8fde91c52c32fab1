"""DDIM on the Gaussian prior in closed form: a step carries x_t - αμ to a multiple of itself.

With ε̂ = σ (x_t - αμ)/v the step from t to t' gives x_t' - α'μ = (α α' s² + σ σ')/v · (x_t - αμ). In the limit
of small steps the product over a path is √(v'/v).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from toys import STD, gaussian_prior


class Level(NamedTuple):
    """α, σ and v = α²s² + σ² at one timestep."""

    alpha: float
    sigma: float
    variance: float


@cache
def level(t: int) -> Level:
    """The noise level of a timestep, in double precision."""
    prior = gaussian_prior()
    alpha, sigma = prior.alphas[t].item(), prior.sigmas[t].item()
    return Level(alpha, sigma, alpha**2 * STD**2 + sigma**2)


def growth(times: Sequence[int]) -> float:
    """What x_t - αμ is multiplied by on its way over these timesteps."""
    product = 1.0
    for here, there in pairwise(map(level, times)):
        product *= (here.alpha * there.alpha * STD**2 + here.sigma * there.sigma) / here.variance
    return product


def path(start: int, end: int, stride: int) -> list[int]:
    """The timesteps of an inversion of one latent."""
    return [*range(start, end, stride), end]
