"""RewardVSD (arXiv 2503.09601): VSD over K noises, weighed by the reward of the images they lead to.

    x_t^k = α x + σ ε^k,   r_k = reward of the image that x_t^k is denoised to
    G   = w(t) Σ_k c_k (ε̂_ω(x_t^k; y_view) - ε̂_ψ(x_t^k; y, c)),   c from the ranks or the softmax of r
    L_ψ = ‖ε̂_ψ(α_t' x + σ_t' ε'; y, c) - ε'‖²,   t' ~ U[0, T)

for the first part of the run, then plain VSD. ψ is trained as in VSD, once a step on one noise. Ranking, and
its differences from the released code, as in `rewardsds`. Cost per view: 3K + 1 denoiser forwards, 1 backward,
K decodes, K rewards, and 2K forwards for each further DDIM step; VSD's 4 and 1 after `reward_duration`.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from psdbench.guidance import (
    Method,
    RenderScore,
    Setting,
    Step,
    combine,
    method,
    noise_pool,
    short_ddim,
    weights,
)
from psdbench.ranking import check_ranking, coefficients, scores
from psdbench.schedules import Weighting


@method("rewardvsd", paper="arXiv 2503.09601", needs_reward=True)
class RewardVSD(Method):
    """Variational Score Distillation over reward-weighted noises."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance on the prior; the authors' value"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; VSD's value"""
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
    """share of the run until plain VSD; the authors' value in 3D"""
    per_view: bool = False
    """rank each view by itself instead of the whole view set, as the authors do"""
    lora_rank: int = 4
    """rank of the LoRA, its alpha alike; VSD's value"""
    lora_learning_rate: float = 1e-4
    """of AdamW for LoRA and camera network; VSD's value, the authors use 3e-4 in 2D"""
    camera_dropout: float = 0.1
    """probability that ψ is trained without the camera; VSD's value"""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {"noises": self.noises, "extremes": self.extremes, "rank_on": self.rank_on}
        check_ranking(self.name, rule=self.rule, temperature=self.temperature, **counts)

    def setup(self, setting: Setting) -> RenderScore:
        score = setting.prior.tunable_score(self.lora_rank, self.lora_learning_rate, setting.streams)
        return RenderScore(score, self.camera_dropout)

    def gradient(self, step: Step) -> Tensor:
        k = self.noises if step.progress < self.reward_duration else 1
        pool = noise_pool(step, step.noises(k), self.guidance_scale)
        weight = weights(step, pool, self.weighting)
        residuals = pool.eps_hat - step.state.predict_noise(step, pool)
        step.state.fit(step)
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
