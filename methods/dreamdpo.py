"""DreamDPO (arXiv 2502.04370, ICML 2025): the preferred of two noises is pulled, the other pushed away.

Two noises on one render give residuals ρ_k = ε̂_ω(x_t^k) - ε^k; the reward of their one-step images says
which won. With the gap Δ = r_w - r_l,

    G = w(t) (ρ_w - ρ_l)   where Δ >= τ,        G = w(t) ρ_w   below.

The two coefficients of the upper branch sum to 0: the pair alone has no pull to the prior, and on a Gaussian
prior under a linear reward it drifts along the reward without a fixed point. What holds the render is the
lower branch, so τ is more than a detail.

The released code differs from this formula; `form = code` does as it does:
  1. the loser's prediction is the text branch alone, without guidance: a pair of equals gives not 0 but
     w (ω - 1) (ε̂_text - ε̂_neg), a hidden pull by the classifier score;
  2. below τ it is w ε̂_w, the noise not subtracted: the same mean, with the noise's variance;
  3. each view of a set has its own winner, though the set is one object.
A fourth difference, a vision-language model that may turn losers into winners, is not reproduced.
Cost per view: 4 denoiser forwards, 2 decodes, 2 rewards.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from psdbench.guidance import (
    Method,
    RunningMean,
    Setting,
    Step,
    combine,
    method,
    noise_pool,
    one_step_x0,
    weights,
)
from psdbench.guidance.ranking import scores
from psdbench.schedules import Weighting


@method("dreamdpo", paper="arXiv 2502.04370", needs_reward=True)
class DreamDPO(Method):
    """DreamDPO, win against lose of two noises."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance; the authors' value, where MVDream alone uses 50"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; the authors' code uses σ²"""
    threshold: float = 0.01
    """τ, from which on the loser is pushed; 0.01 is the authors' example for HPSv2, their default file has 0"""
    threshold_unit: Literal["reward", "mean_gap"] = "reward"
    """τ in units of the reward as the paper, or of the gap's running mean, the same for rewards of any scale"""
    form: Literal["paper", "code"] = "paper"
    """the formula of the paper, or what the released code computes"""
    per_view: bool = False
    """rank each view by itself instead of the whole view set; form = code always does"""

    def setup(self, setting: Setting) -> RunningMean | None:
        return RunningMean() if self.threshold_unit == "mean_gap" else None

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noises(2), self.guidance_scale)
        weight = weights(step, pool, self.weighting)
        rewards = scores(step, one_step_x0(step, pool), self.per_view or self.form == "code")
        gap = rewards[0] - rewards[1]
        first = (gap >= 0) + 0 * gap  # NaN where the gap is: a tie would hide it
        win, lose = torch.stack([first, 1 - first]), torch.stack([1 - first, first])
        push = (gap.abs() >= self._threshold(step, gap)).float()
        if self.form == "paper":
            return combine(pool.residuals, weight, win - push * lose)
        pulled = pool.eps_hat - push[:, None, None, None] * pool.noises
        pushed = pool.eps_text - pool.noises
        return combine(pulled, weight, win) - combine(pushed, weight, push * lose)

    def _threshold(self, step: Step, gap: Tensor) -> Tensor | float:
        """τ in units of the reward."""
        if self.threshold_unit == "reward":
            return self.threshold
        return self.threshold * step.state.update(gap.abs().mean())
