"""Score Jacobian Chaining (arXiv 2212.00774).

    z = x + u ε  with u = σ/α,   D(z) = z - u ε̂_ω(z/√(1 + u²); y)

    G = (x - D(z))/u = ε̂_ω - ε   with reduced variance, else   G = (z - D(z))/u = ε̂_ω

The paper thinks in variance-exploding coordinates; z/√(1 + u²) is x_t, so the first form is SDS with w = 1,
and the second has the same mean, as E[ε] = 0, but keeps the noise that the prior finds in x_t. What else sets
the paper apart, a grid of latents with a penalty on emptiness, belongs to the representation, which is shared.
Cost per view: 2 denoiser forwards.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.guidance import Method, Step, combine, method, noise_pool, weights


@method("sjc", paper="arXiv 2212.00774")
class SJC(Method):
    """Score Jacobian Chaining."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance, as for SDS; the paper's 100 is ε̂_y + s (ε̂_y - ε̂_n) with s = ω - 1"""
    variance_reduced: bool = True
    """subtract the drawn noise, which leaves the mean as it is; the paper's choice, threestudio's var_red"""

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noise(), self.guidance_scale)
        residuals = pool.residuals if self.variance_reduced else pool.eps_hat
        return combine(residuals, weights(step, pool, "uniform"))
