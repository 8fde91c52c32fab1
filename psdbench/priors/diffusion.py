"""The forward diffusion that all priors share: x_t = α_t x + σ_t ε with α_t² = ᾱ_t, σ_t² = 1 - ᾱ_t."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from psdbench.errors import UsageError


def alphas_cumprod(config: Mapping[str, Any]) -> Tensor:
    """ᾱ_t [T], float32, of a diffusers scheduler_config.json; its defaults apply to what is left out.

    Raises UsageError for schedules other than `linear` and `scaled_linear` and for rescaled zero-SNR ones.
    """
    kind = config.get("beta_schedule", "linear")
    first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    power = {"linear": 1, "scaled_linear": 2}.get(kind)
    if power is None or config.get("trained_betas") is not None or config.get("rescale_betas_zero_snr"):
        raise UsageError(
            f"the prior's noise schedule '{kind}' is not supported",
            "use a prior with a linear or scaled_linear beta_schedule, without trained or rescaled betas",
        )
    steps = config.get("num_train_timesteps", 1000)
    betas = torch.linspace(first ** (1 / power), last ** (1 / power), steps, dtype=torch.float64) ** power
    return torch.cumprod(1 - betas, dim=0).float()


class Diffusion:
    """The arithmetic of noising and denoising at timesteps of any shape [...], on tensors [..., C, h, w]."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        self.alphas_cumprod = alphas_cumprod
        self.num_timesteps = len(alphas_cumprod)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α_t and σ_t, [..., 1, 1, 1]."""
        signal = self.alphas_cumprod[t][..., None, None, None]
        return signal.sqrt(), (1 - signal).sqrt()

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = α x + σ ε."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha * x + sigma * noise

    def predict_x0(self, x_t: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x̂0 = (x_t - σ ε̂) / α."""
        alpha, sigma = self.alpha_sigma(t)
        return (x_t - sigma * eps) / alpha

    def epsilon(self, kind: str, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """A network's output as ε̂: itself for `epsilon`, σ x_t + α v for `v_prediction`."""
        if kind == "epsilon":
            return prediction
        alpha, sigma = self.alpha_sigma(t)
        return sigma * x_t + alpha * prediction
