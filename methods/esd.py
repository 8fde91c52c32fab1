"""Entropic Score Distillation (arXiv 2401.00909).

    G   = w(t) (ε̂_ω(x_t; y_view) - [ε̂_ψ(x_t; y) + g (ε̂_ψ(x_t; y, c) - ε̂_ψ(x_t; y))])
    L_ψ = as VSD's, the camera withheld at random

VSD with one switch: classifier-free guidance of scale g, over the camera c, on the score of the renders. The
camera-free branch is the score of the renders of all views together; g < 1 gives it the weight λ = 1 - g, and
with it the KL divergence a bonus for the entropy of that marginal. Views may differ as the prior's samples do,
where VSD draws each one to the same mode, which is one way to a face on every side. g = 1 is VSD, bit for bit.
The particles of a job (`optimize.particles`) share ψ as they do under VSD.
Cost per view: 5 denoiser forwards, 1 backward; at g = 0 and g = 1 one branch has no weight: 4 forwards.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.errors import UsageError
from psdbench.guidance import Method, RenderScore, Setting, Step, combine, method, noise_pool, weights
from psdbench.schedules import Weighting


@method("esd", paper="arXiv 2401.00909")
class ESD(Method):
    """Entropic Score Distillation."""

    camera_guidance: float = 0.5
    """g on the score of the renders, no unit: 1 is VSD, 0 the marginal alone; the authors' value"""
    guidance_scale: float = 7.5
    """ω of classifier-free guidance on the prior; VSD's value"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; as VSD's code"""
    lora_rank: int = 4
    """rank of the LoRA, its alpha alike; as VSD"""
    lora_learning_rate: float = 1e-4
    """of AdamW for LoRA and camera network; VSD's value, for runs of 25 000 steps"""
    camera_dropout: float = 0.1
    """probability that ψ is trained without the camera, which teaches the marginal; threestudio's value"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.camera_guidance != 1 and self.camera_dropout <= 0:
            raise UsageError(
                "esd.camera_dropout is 0: the score without a camera would never be trained",
                "set it above 0, or camera_guidance to 1",
            )

    def setup(self, setting: Setting) -> RenderScore:
        score = setting.prior.tunable_score(self.lora_rank, self.lora_learning_rate, setting.streams)
        return RenderScore(score, self.camera_dropout)

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noise(), self.guidance_scale)
        eps_psi = step.state.predict_noise(step, pool, self.camera_guidance)
        step.state.fit(step)
        return combine(pool.eps_hat - eps_psi, weights(step, pool, self.weighting))
