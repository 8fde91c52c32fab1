"""DreamReward's DreamFL (arXiv 2403.14613, ECCV 2024): SDS corrected by the gradient of a reward on x̂0.

    G = w(t) (ε̂_ω(x_t; y) - ε) - λ ∂r(D(x̂0))/∂x̂0,   x̂0 = (x_t - σ ε̂_ω)/α,   D the decoder

The reward judges what the denoiser makes of the render, which looks more like what it was trained on, and its
gradient is applied to the render as if the two were one (straight through: ∂x̂0/∂x := 1). Where t is large
x̂0 is not the render's any more, and the reward judges the render instead.

Differences from the released code, on purpose: the reward is any differentiable scorer, each view by itself,
since its four-view Reward3D has no training code; straight through means to the latents, all that a method
sees here, and the decoder's gradient is part of ∂r, where the code goes from pixels to pixels; λ comes from
the gradients' norms instead of the losses' decades (why: `psdbench.guidance.ascent`); the code's last 200 steps on the
reward alone are left out. Cost per view, from `reward_start` on: 2 denoiser forwards, 1 decode, 1 reward
forward and backward.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.guidance import Method, Step, combine, method, noise_pool, one_step_x0, weights
from psdbench.guidance.ascent import Balance, climb, slope
from psdbench.schedules import Weighting


@method("dreamreward", paper="arXiv 2403.14613", needs_reward_gradient=True)
class DreamReward(Method):
    """DreamFL, the reward's gradient through the predicted clean image; the authors' bold setting."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance; the authors use MVDream's 50"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α (the authors' with MVDream)"""
    x0_rescale: float = 0.0
    """ρ in [0, 1], share of x̂0's contrast that is taken back, as in SDS; MVDream's code has 0.5"""
    reward_weight: float = 0.3
    """reward term as a share of SDS's norm, or, not balanced, λ itself; 0 is SDS; theirs is 0.3 bold, 0.6 careful"""
    balance: Balance = "ratio"
    """ratio: reward_weight is a share of the SDS gradient's norm; none: it is λ"""
    reward_start: float = 0.1
    """share of the run before the reward is asked; the authors' step 1000 of 10 400, 6000 when careful"""
    x0_t_max: float = 0.3
    """largest t, share of the diffusion, at which x̂0 is judged instead of the render; theirs, 0.1 when careful"""
    ceiling: float | None = None
    """reward from which on its gradient stops; the authors' hinge is at 4 of Reward3D"""

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noise(), self.guidance_scale, x0_rescale=self.x0_rescale)
        base = combine(pool.residuals, weights(step, pool, self.weighting))
        if self.reward_weight == 0 or step.progress < self.reward_start:
            return base
        clear = step.timestep[0] <= self.x0_t_max * step.prior.num_timesteps
        judged = one_step_x0(step, pool)[0] if clear else step.latents
        return climb(base, slope(step, judged, self.ceiling), self.reward_weight, self.balance)
