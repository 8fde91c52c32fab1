"""RewardSDS (arXiv 2503.09601): SDS over K noises, weighed by the reward of the images they lead to.

    x_t^k = α x + σ ε^k,   r_k = reward of the image that x_t^k is denoised to
    G = w(t) Σ_k c_k (ε̂_ω(x_t^k; y) - ε^k),   c from the ranks or the softmax of r

for the first part of the run, then plain SDS. With a softmax of temperature τ over many noises the fixed point
on a Gaussian prior under a linear reward is, as t → 0, the mean of the tilted prior p·exp(r/τ).

Differences from the released code, on purpose: images are ranked after one step unless `rank_on` asks for a
DDIM chain (there it has a step for each 1/15 of the diffusion up to t, at 42 to 105 times the cost of SDS),
and a chain has equal steps from t to 0; softmax standardises the rewards. Cost per view: 2K denoiser forwards,
K decodes, K rewards, and 2K forwards for each further DDIM step; 2 forwards after `reward_duration`.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from psdbench.guidance import Method, Pool, Step, combine, method, noise_pool, short_ddim, weights
from psdbench.guidance.ranking import check_ranking, coefficients, scores
from psdbench.schedules import Weighting


@method("rewardsds", paper="arXiv 2503.09601", needs_reward=True)
class RewardSDS(Method):
    """Score Distillation Sampling over reward-weighted noises."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance; the authors use 50 with MVDream, 100 with Stable Diffusion"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α (the authors' with MVDream)"""
    x0_rescale: float = 0.0
    """ρ in [0, 1], share of x̂0's contrast that is taken back, as in SDS; MVDream's code has 0.5"""
    noises: int = 7
    """K, noises per step; the authors' value in 3D, 4 to 8 in 2D"""
    rule: Literal["best", "softmax", "min_max", "none"] = "min_max"
    """c: the best noise, softmax, 0.9 of the best and -0.1 of the worst (the authors' in 3D), 1/K unranked"""
    extremes: int = 2
    """noises at either end of min_max; the authors' value"""
    temperature: float = 1.0
    """of softmax, in standard deviations of the K rewards, or in reward units without normalise; theirs"""
    normalise: bool = True
    """standardise the K rewards for softmax; the authors do not, which suits ImageReward's unit scale alone"""
    rank_on: int = 1
    """DDIM steps from x_t to the image that is ranked; 1 is the one-step x̂0, the authors go up to 15"""
    reward_duration: float = 0.7
    """share of the run until the plain base method; the authors' value in 3D"""
    per_view: bool = False
    """rank each view by itself instead of the whole view set, as the authors do"""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {"noises": self.noises, "extremes": self.extremes, "rank_on": self.rank_on}
        check_ranking(self.name, rule=self.rule, temperature=self.temperature, **counts)

    def gradient(self, step: Step) -> Tensor:
        k = self.noises if step.progress < self.reward_duration else 1
        pool = noise_pool(step, step.noises(k), self.guidance_scale, x0_rescale=self.x0_rescale)
        weight = weights(step, pool, self.weighting)
        residuals = self.residuals(step, pool)
        if k == 1 or self.rule == "none":
            return combine(residuals, weight / k)
        x0 = short_ddim(step, pool, self.rank_on, self.guidance_scale)
        c = coefficients(
            self.rule,
            scores(step, x0, self.per_view),
            temperature=self.temperature,
            normalise=self.normalise,
            extremes=self.extremes,
        )
        return combine(residuals, weight, c)

    def residuals(self, step: Step, pool: Pool) -> Tensor:
        """ρ_k of each noise, SDS's."""
        return pool.residuals
