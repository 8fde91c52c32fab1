"""Learning a negative text embedding online, from pairs of noisy latents that a reward has ranked.

Under classifier-free guidance the effective prior of two Gaussians sits at y + (ω - 1)(y - n): moving n by δ
moves it by -(ω - 1) δ. So n is a handle on the prior as its parameters are, with a gain of ω - 1; hence small
learning rates and a trust region. Only the denoiser's negative branch is differentiated, with respect to n.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from psdbench.guidance import Pool, Step, cfg, denoise
from psdbench.guidance.state import SideOptimizer, State

Objective = Literal["dpo_x0", "pull_win", "refl"]

DPO_BETA = 5000.0
"""Diffusion-DPO's β, for squared errors averaged over a latent"""


class NegativeEmbedding(State):
    """n = n₀ + δ for all views, δ trained by AdamW and kept in the trust region ‖δ‖ <= radius · ‖n₀‖.

    Objectives: `dpo_x0`, Diffusion-DPO (arXiv 2311.12908) on the clean pair, freshly noised, policy n
    against reference n₀; `pull_win`, the loser's x̂0 is drawn to the winner's, weighted by their gap;
    `refl`, the gradient of the reward itself (as ReNeg, arXiv 2412.19637). Weight decay pulls n to n₀. The
    learning rate is relative to n₀: one AdamW step moves ‖δ‖ by about learning_rate · ‖n₀‖.
    """

    def __init__(
        self,
        origin: Tensor,
        objective: Objective,
        guidance_scale: float,
        learning_rate: float,
        radius: float,
    ) -> None:
        self.origin = origin.detach()
        self.offset = torch.zeros_like(self.origin).requires_grad_()
        self._loss = {"dpo_x0": self._dpo_x0, "pull_win": self._pull_win, "refl": self._refl}[objective]
        self._guidance_scale = guidance_scale
        self._radius = radius * self.origin.norm()
        root_mean_square = self.origin.square().mean().sqrt().item()
        self._optimizer = SideOptimizer({"offset": self.offset}, learning_rate * root_mean_square)

    @property
    def embedding(self) -> Tensor:
        """n [1, L, D], without a graph."""
        return (self.origin + self.offset).detach()

    def learn(self, step: Step, pool: Pool, x0: Tensor, gap: Tensor) -> None:
        """One update from a pool of two noises, their clean latents and reward gaps r_1 - r_2, [V] or [1]."""
        self._optimizer.step(self._loss(step, pool, x0, gap))
        with torch.no_grad():
            self.offset.mul_((self._radius / self.offset.norm().clamp_min(1e-12)).clamp_max(1.0))

    def _guided(self, step: Step, x_t: Tensor, t: Tensor, eps_text: Tensor) -> Tensor:
        (eps_negative,) = denoise(step, x_t, t, self.origin + self.offset, grad=True)
        return cfg(eps_negative, eps_text, self._guidance_scale)

    def _dpo_x0(self, step: Step, pool: Pool, x0: Tensor, gap: Tensor) -> Tensor:
        # The noisy pair itself cannot serve: both share one clean render, and learning to denoise the winner
        # back to that render moves the effective prior against the reward.
        clean = torch.stack([choose(gap >= 0, x0), choose(gap < 0, x0)])
        noise, t = step.noise("method"), step.timestep.expand(2, -1)
        x_t = step.prior.add_noise(clean, noise, t)
        eps_reference, eps_text = denoise(step, x_t, t, self.origin, step.text.positive)
        reference = cfg(eps_reference, eps_text, self._guidance_scale)
        policy = self._guided(step, x_t, t, eps_text)
        excess = per_view((policy - noise).square() - (reference - noise).square())
        return -((gap != 0) * logsigmoid(-DPO_BETA * (excess[0] - excess[1]))).mean()

    def _pull_win(self, step: Step, pool: Pool, x0: Tensor, gap: Tensor) -> Tensor:
        x_t, t, eps_text = (choose(gap < 0, pair)[None] for pair in (pool.x_t, pool.timesteps, pool.eps_text))
        loser = step.prior.predict_x0(x_t, self._guided(step, x_t, t, eps_text), t)
        return (gap.abs() * per_view((loser - choose(gap >= 0, x0)).square())).mean()

    def _refl(self, step: Step, pool: Pool, x0: Tensor, gap: Tensor) -> Tensor:
        x_t, t = pool.x_t[:1], pool.timesteps[:1]
        eps = self._guided(step, x_t, t, pool.eps_text[:1])
        return -step.rewards(step.prior.predict_x0(x_t, eps, t), grad=True).mean()

    def state_dict(self) -> dict[str, Tensor]:
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._optimizer.load_state_dict(state)


def choose(first: Tensor, pair: Tensor) -> Tensor:
    """Of a pair [2, V, ...] the first element where `first` [V] or [1] is true, else the second; [V, ...]."""
    return torch.where(first.reshape(-1, *(1,) * (pair.dim() - 2)), pair[0], pair[1])


def per_view(errors: Tensor) -> Tensor:
    """The mean over channels and pixels, [..., V]."""
    return errors.mean((-3, -2, -1))
