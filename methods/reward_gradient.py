"""Reward-gradient guidance: SDS plus the gradient of the reward on the render, the naive baseline.

    G = w(t) (ε̂_ω(x_t; y) - ε) - λ ∂r(D(x))/∂x,   x the latents of the render, D the decoder

This is what preference methods claim to improve on: nothing keeps the reward on images like those it was
trained on, so what rises may be the score alone. A method sees latents, not pixels: the reward judges the
decoded latents, the render as the autoencoder keeps it, and its gradient reaches the render through decoder
and encoder. Cost per view: 2 denoiser forwards, 1 decode, 1 reward forward and backward.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.guidance import Method, Step, combine, method, noise_pool, weights
from psdbench.guidance.ascent import Balance, climb, slope
from psdbench.schedules import Weighting


@method("reward_gradient", paper="baseline without a paper", needs_reward_gradient=True)
class RewardGradient(Method):
    """SDS plus the reward's gradient on the render."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance; SDS's value"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α"""
    x0_rescale: float = 0.0
    """ρ in [0, 1], share of x̂0's contrast that is taken back, as in SDS; MVDream's code has 0.5"""
    reward_weight: float = 0.3
    """reward term as a share of SDS's norm, or, not balanced, λ itself; 0 is SDS; DreamReward's value"""
    balance: Balance = "ratio"
    """ratio: reward_weight is a share of the SDS gradient's norm; none: it is λ"""

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noise(), self.guidance_scale, x0_rescale=self.x0_rescale)
        base = combine(pool.residuals, weights(step, pool, self.weighting))
        if self.reward_weight == 0:
            return base
        return climb(base, slope(step, step.latents), self.reward_weight, self.balance)
