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
from psdbench.guidance import Pool, Step, method
from psdbench.methods.vsd import VSD


@method("esd", paper="arXiv 2401.00909")
class ESD(VSD):
    """Entropic Score Distillation."""

    camera_guidance: float = 0.5
    """g on the score of the renders, no unit: 1 is VSD, 0 the marginal alone; the authors' value"""
    camera_dropout: float = 0.1
    """probability that ψ is trained without the camera, which teaches the marginal; threestudio's value"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.camera_guidance != 1 and self.camera_dropout <= 0:
            raise UsageError(
                "esd.camera_dropout is 0: the score without a camera would never be trained",
                "set it above 0, or camera_guidance to 1",
            )

    def residuals(self, step: Step, pool: Pool) -> Tensor:
        eps_psi = step.state.predict_noise(step, pool, self.camera_guidance)
        step.state.fit(step)
        return pool.eps_hat - eps_psi
