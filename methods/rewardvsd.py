"""RewardVSD (arXiv 2503.09601): VSD over K noises, weighed by the reward of the images they lead to.

    x_t^k = α x + σ ε^k,   r_k = reward of the image that x_t^k is denoised to
    G   = w(t) Σ_k c_k (ε̂_ω(x_t^k; y_view) - ε̂_ψ(x_t^k; y, c)),   c from the ranks or the softmax of r
    L_ψ = ‖ε̂_ψ(α_t' x + σ_t' ε'; y, c) - ε'‖²,   t' ~ U[0, T)

for the first part of the run, then plain VSD. ψ is trained as in VSD, once a step on one noise. Ranking, and
its differences from the released code, as in `rewardsds`. Cost per view: 3K + 1 denoiser forwards, 1 backward,
K decodes, K rewards, and 2K forwards for each further DDIM step; VSD's 4 and 1 after `reward_duration`.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.guidance import Pool, Step, method
from psdbench.methods.rewardsds import RewardSDS
from psdbench.methods.vsd import VSD
from psdbench.schedules import Weighting


@method("rewardvsd", paper="arXiv 2503.09601", needs_reward=True)
class RewardVSD(RewardSDS, VSD):
    """Variational Score Distillation over reward-weighted noises."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance on the prior; the authors' value"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; VSD's value"""
    lora_learning_rate: float = 1e-4
    """of AdamW for LoRA and camera network; VSD's value, the authors use 3e-4 in 2D"""

    def residuals(self, step: Step, pool: Pool) -> Tensor:
        return VSD.residuals(self, step, pool)
