"""Variational Score Distillation (ProlificDreamer, arXiv 2305.16213).

    G   = w(t) (ε̂_ω(x_t; y_view) - ε̂_ψ(x_t; y, c))
    L_ψ = ‖ε̂_ψ(α_t' x + σ_t' ε'; y, c) - ε'‖²,   t' ~ U[0, T)

ε̂_ψ, the score of the renders, is a LoRA on the prior's UNet, conditioned on the camera c and trained in
the same step. Where SDS collapses to the prior's mode, particles under VSD keep the prior's spread: all
particles of a job (`optimize.particles`, one of them moved by each step) share ψ, the score of all their renders.

Differences from threestudio's implementation, on purpose: ψ starts exactly at the prior (the camera
network's last layer is zero), one prior serves both branches, ψ regresses ε also where the prior predicts v,
and the camera-free branch of ψ is not computed, since at guidance 1 on ψ it has no weight.
Cost per view: 4 denoiser forwards, 1 backward.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.guidance import Method, Pool, RenderScore, Setting, Step, combine, method, noise_pool, weights
from psdbench.schedules import Weighting


@method("vsd", paper="arXiv 2305.16213")
class VSD(Method):
    """Variational Score Distillation."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance on the prior; the paper's value"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; the paper's code uses σ²"""
    lora_rank: int = 4
    """rank of the LoRA, its alpha alike; diffusers' default at the paper's time"""
    lora_learning_rate: float = 1e-4
    """of AdamW for LoRA and camera network; the paper's value, for runs of 25 000 steps"""
    camera_dropout: float = 0.1
    """probability that ψ is trained without the camera; threestudio's value"""

    def setup(self, setting: Setting) -> RenderScore:
        score = setting.prior.tunable_score(self.lora_rank, self.lora_learning_rate, setting.streams)
        return RenderScore(score, self.camera_dropout)

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noise(), self.guidance_scale)
        return combine(self.residuals(step, pool), weights(step, pool, self.weighting))

    def residuals(self, step: Step, pool: Pool) -> Tensor:
        """ε̂_ω - ε̂_ψ of each noise, and one training step of ψ."""
        eps_psi = step.state.predict_noise(step, pool)
        step.state.fit(step)
        return pool.eps_hat - eps_psi
