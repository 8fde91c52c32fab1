"""Score Distillation Sampling (DreamFusion, arXiv 2209.14988).

    x_t = α x + σ ε,   G = w(t) (ε̂_ω(x_t; y) - ε)

The render follows the prior's guided score; its fixed point is the prior's mode, so all particles collapse
to it. Cost per view: 2 denoiser forwards.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.guidance import Method, Step, combine, method, noise_pool, weights
from psdbench.schedules import Weighting


@method("sds", paper="arXiv 2209.14988")
class SDS(Method):
    """Score Distillation Sampling."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance; the paper and threestudio use about 100 with Stable Diffusion"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; threestudio uses σ²"""

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noise(), self.guidance_scale)
        return combine(pool.residuals, weights(step, pool, self.weighting))
