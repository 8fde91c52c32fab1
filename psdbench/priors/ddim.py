"""Sampling from a prior: DDIM (arXiv 2010.02502) under classifier-free guidance, with a graph on request.

One move from t to t' < t, with x̂0 = (x - σ ε̂_ω)/α:

    x' ~ N(α' x̂0 + √(σ'² - s²) ε̂_ω, s²),     s = η (σ'/σ) √(1 - α²/α'²)

η = 0 is deterministic, η = 1 is ancestral sampling as in DDPM. A chain ends at t = 0, whose noise level the
decoder cannot see (σ₀ = 0.03 in Stable Diffusion's schedule, `set_alpha_to_one` false).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.guidance import cfg

if TYPE_CHECKING:
    from psdbench.priors import Prior

Move = tuple[int, int]
"""the timesteps before and after"""


def moves(prior: Prior, steps: int) -> list[Move]:
    """The moves of a chain of `steps` denoiser evaluations, from the noisiest timestep to 0."""
    times = torch.linspace(prior.num_timesteps - 1, 0, steps + 1).long()
    return list(pairwise(times.tolist()))


def transition(
    prior: Prior,
    x: Tensor,
    text: Tensor,
    move: Move,
    guidance_scale: float,
    *,
    eta: float = 0.0,
    grad: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mean [B, C, h, w] and standard deviation [B, 1, 1, 1] of the state after a move.

    `text` [2, B, L, D] holds the negative and the positive embeddings; `grad` keeps the denoiser's graph.
    """
    now, then = (torch.full((len(x),), t, device=x.device) for t in move)
    eps = guided(prior, x, now, text, guidance_scale, grad)
    alpha_next, sigma_next = prior.alpha_sigma(then)
    std = eta * posterior_std(prior, then, now)
    kept = (sigma_next.square() - std.square()).clamp_min(0).sqrt()
    return alpha_next * prior.predict_x0(x, eps, now) + kept * eps, std


def posterior_std(prior: Prior, t: Tensor, to: Tensor) -> Tensor:
    """Standard deviation of q(x_t | x_to, x_0) for t <= to, [..., 1, 1, 1]: DDIM's noise at its η = 1.

    From t to `to` a diffusion shrinks by α_to/α and adds the variance that σ_to² then lacks.
    """
    (alpha, sigma), (alpha_to, sigma_to) = prior.alpha_sigma(t), prior.alpha_sigma(to)
    added = (sigma_to**2 - (alpha_to / alpha * sigma) ** 2).clamp_min(0)
    return sigma / sigma_to * added.sqrt()


def guided(prior: Prior, x: Tensor, t: Tensor, text: Tensor, guidance_scale: float, grad: bool) -> Tensor:
    """ε̂_ω; at ω = 1 the negative branch has no weight and is not computed."""
    if guidance_scale == 1:
        return prior.predict_noise(x, t, text[1], grad=grad)
    both = prior.predict_noise(torch.cat([x, x]), t.repeat(2), text.flatten(0, 1), grad=grad)
    eps_negative, eps_text = both.chunk(2)
    return cfg(eps_negative, eps_text, guidance_scale)


def walk(
    prior: Prior,
    x: Tensor,
    text: Tensor,
    path: Iterable[Move],
    guidance_scale: float,
    *,
    grad: bool = False,
) -> Tensor:
    """The deterministic chain along a path of moves; the end of the whole path is the clean latents."""
    for move in path:
        x, _ = transition(prior, x, text, move, guidance_scale, grad=grad)
    return x
