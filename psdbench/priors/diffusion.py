"""The forward diffusion that all priors share: x_t = α_t x + σ_t ε, and what a network's output says about ε.

Variance-preserving priors (Stable Diffusion, DeepFloyd IF) have α² = ᾱ_t and σ² = 1 - ᾱ_t; flow-matching ones
(Stable Diffusion 3) go straight from image to noise, α = 1 - σ. Everything beyond this file asks for α and σ alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import cos, pi
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psdbench.errors import EnvironmentProblem

if TYPE_CHECKING:
    from psdbench.priors import PullBack

FLOW = "FlowMatchEulerDiscreteScheduler"
"""diffusers' scheduler of flow-matching models"""
PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow")
"""what a network may predict: the noise ε, v = α ε - σ x, the clean x, or the velocity ε - x of a flow"""


def prediction_type(config: Mapping[str, Any]) -> str:
    """One of PREDICTIONS, from a scheduler_config.json; EnvironmentProblem for any other."""
    kind = "flow" if config.get("_class_name") == FLOW else config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise EnvironmentProblem(
            f"the prior predicts '{kind}'", f"use a prior of one of the types {', '.join(PREDICTIONS)}"
        )
    return str(kind)


def noise_schedule(config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """α_t and σ_t [T], float32, of a diffusers scheduler_config.json; EnvironmentProblem for unknown schedules."""
    if config.get("_class_name") == FLOW:
        return flow_schedule(config)
    signal = alphas_cumprod(config)
    return signal.sqrt(), (1 - signal).sqrt()


def alphas_cumprod(config: Mapping[str, Any]) -> Tensor:
    """ᾱ_t [T], float32, of a variance-preserving schedule; diffusers' defaults apply to what is left out.

    Raises EnvironmentProblem for unknown kinds, trained betas, and betas rescaled to a zero signal at the end,
    where no clean image can be inferred from ε̂.
    """
    kind, steps = config.get("beta_schedule", "linear"), config.get("num_train_timesteps", 1000)
    first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    power = {"linear": 1, "scaled_linear": 2}.get(kind)
    cosine = kind == "squaredcos_cap_v2"
    altered = config.get("trained_betas") is not None or config.get("rescale_betas_zero_snr")
    if altered or not (power or cosine):
        raise EnvironmentProblem(
            f"the prior's noise schedule '{kind}' is not supported{' with altered betas' if altered else ''}",
            "use a prior with a linear, scaled_linear or squaredcos_cap_v2 beta_schedule, not trained or rescaled",
        )
    if power:
        betas = torch.linspace(first ** (1 / power), last ** (1 / power), steps, dtype=torch.float64) ** power
    else:  # Improved DDPM (arXiv 2102.09672), eq. 17, with its β <= 0.999
        bar = [cos((i / steps + 0.008) / 1.008 * pi / 2) ** 2 for i in range(steps + 1)]
        betas = torch.tensor([min(1 - bar[i + 1] / bar[i], 0.999) for i in range(steps)], dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0).float()


def flow_schedule(config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """α_t = 1 - σ_t and σ_t [T] of a flow-matching scheduler, shifted towards noise as it says.

    σ is taken at the middle of each of T intervals: at the ends α or σ would be 0, and x̂0 or ε̂ undefined.
    Raises EnvironmentProblem for a shift that depends on the image's size.
    """
    if config.get("use_dynamic_shifting"):
        raise EnvironmentProblem(
            "the prior's noise schedule depends on the image's size",
            "use a flow-matching prior of fixed shift",
        )
    steps, shift = config.get("num_train_timesteps", 1000), config.get("shift", 1.0)
    even = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    sigmas = shift * even / (1 + (shift - 1) * even)
    return (1 - sigmas).float(), sigmas.float()


class Diffusion:
    """The arithmetic of noising and denoising at timesteps of any shape [...], on tensors [..., C, h, w]."""

    views = 1
    """images that the network denoises together, as one set; more where it sees several views of an object"""

    def __init__(self, alphas: Tensor, sigmas: Tensor) -> None:
        self.alphas, self.sigmas = alphas, sigmas
        self.num_timesteps = len(alphas)

    def save_memory(self, at_once: int = 0, recompute: bool = False) -> None:
        """As the contract of priors says; without networks there is nothing to save."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α_t and σ_t, [..., 1, 1, 1]."""
        return self.alphas[t][..., None, None, None], self.sigmas[t][..., None, None, None]

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = α x + σ ε."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha * x + sigma * noise

    def predict_x0(self, x_t: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x̂0 = (x_t - σ ε̂) / α."""
        alpha, sigma = self.alpha_sigma(t)
        return (x_t - sigma * eps) / alpha

    def epsilon(self, kind: str, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """A network's output as ε̂, by its kind, one of PREDICTIONS.

        `epsilon` is it already; `v_prediction` σ x_t + α v, as α² + σ² = 1; `sample` (x_t - α x̂0)/σ; `flow`
        x_t + α v, as α + σ = 1.
        """
        if kind == "epsilon":
            return prediction
        alpha, sigma = self.alpha_sigma(t)
        if kind == "v_prediction":
            return sigma * x_t + alpha * prediction
        if kind == "sample":
            return (x_t - alpha * prediction) / sigma
        return x_t + alpha * prediction


class LatentPrior(Diffusion, ABC):
    """A prior that turns images into latents, and gradients on these back."""

    away = 0.0

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images to latents, as the contract of priors says."""

    def encode_for_gradient(self, images: Tensor) -> tuple[Tensor, PullBack]:
        """As the contract says: the encoder's graph is kept between the two."""
        leaf = images.detach().requires_grad_()
        latents = self.encode(leaf)
        return latents.detach(), lambda gradient: torch.autograd.grad(latents, leaf, gradient)[0]
