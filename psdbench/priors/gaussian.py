"""A prior in closed form: every prompt is a Gaussian N(μ, s²) over images, so all methods can be checked.

With v_t = α²s² + σ² the exact prediction is ε̂(x_t) = σ (x_t - αμ)/v_t and the posterior mean of the clean
image is μ + (αs²/v_t)(x_t - αμ). Images are latents (encode and decode are the identity) and a text
embedding is the mean μ itself, so that learning an embedding is learning where its Gaussian stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psdbench.counters import Counters
from psdbench.errors import UsageError
from psdbench.priors.diffusion import LatentPrior, noise_schedule
from psdbench.streams import Streams

if TYPE_CHECKING:
    from psdbench.cameras import Cameras

STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class GaussianPrior(LatentPrior):
    """N(μ_prompt, s²) over images [3, h, w]; unless told otherwise, the noise schedule is Stable Diffusion's."""

    name = "gaussian"
    latent_scale = 1

    def __init__(
        self,
        mean_by_prompt: Mapping[str, Tensor],
        std: float,
        scheduler: Mapping[str, Any] = STABLE_DIFFUSION,
    ) -> None:
        super().__init__(*noise_schedule(scheduler))
        self.means, self.std = dict(mean_by_prompt), std
        self.shape = next(iter(self.means.values())).shape
        self.latent_channels = self.shape[0]
        self.device = torch.device("cpu")
        self.weights: dict[str, str] = {}
        self.counters = Counters()

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """The means, flattened to [B, 1, C·h·w]; a prompt with view words falls back on the one without."""
        return torch.stack([self._mean(prompt).flatten()[None] for prompt in prompts])

    def _mean(self, prompt: str) -> Tensor:
        key = prompt if prompt in self.means else prompt.rpartition(", ")[0] or prompt
        if key not in self.means:
            raise UsageError(
                f"the Gaussian prior knows no prompt '{prompt}'", f"use one of {sorted(self.means)}"
            )
        return self.means[key]

    def encode(self, images: Tensor) -> Tensor:
        """The identity."""
        self.counters.add("encodes", len(images))
        return images

    def decode(self, latents: Tensor) -> Tensor:
        """The identity; not clamped, since closed forms want linear rewards on unbounded images."""
        self.counters.add("decodes", len(latents))
        return latents

    def predict_noise(
        self, x_t: Tensor, t: Tensor, text: Tensor, cameras: Cameras | None = None, *, grad: bool = False
    ) -> Tensor:
        """The exact ε̂ of N(μ, s²), μ read from the text embedding."""
        self.counters.add("denoiser_forwards", len(x_t))
        with torch.set_grad_enabled(grad):
            eps = self.exact_noise(x_t, t, text.unflatten(-1, self.shape)[:, 0], self.std**2)
        if eps.requires_grad:
            eps.register_hook(lambda _: self.counters.add("denoiser_backwards", len(x_t)))
        return eps

    def exact_noise(self, x_t: Tensor, t: Tensor, mean: Tensor, variance: Tensor | float) -> Tensor:
        """ε̂ = σ (x_t - αμ)/(α² variance + σ²)."""
        alpha, sigma = self.alpha_sigma(t)
        return sigma * (x_t - alpha * mean) / (alpha**2 * variance + sigma**2)

    def tunable_score(self, rank: int, learning_rate: float, streams: Streams) -> GaussianScore:
        """A Gaussian fitted to the particles; rank and learning rate mean nothing here."""
        return GaussianScore(self)


class GaussianScore:
    """q of VSD as the Gaussian with the mean and variance, per coordinate, of the last batch of particles.

    Before the first `update` it is the prior, as a LoRA is at its zero start. Of a single particle the
    variance is 0: a point mass, for which ε̂_q(x_t) is exactly the noise in x_t.
    """

    def __init__(self, prior: GaussianPrior) -> None:
        self._prior = prior
        self.mean: Tensor | None = None
        self.variance: Tensor | None = None

    def predict_noise(self, x_t: Tensor, t: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        """ε̂ of the fitted Gaussian."""
        if self.mean is None or self.variance is None:
            return self._prior.predict_noise(x_t, t, text)
        self._prior.counters.add("denoiser_forwards", len(x_t))
        return self._prior.exact_noise(x_t, t, self.mean, self.variance)

    def update(self, latents: Tensor, t: Tensor, noise: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        """Fit mean and variance to a batch of particles [B, C, h, w]; returns the denoising loss after it."""
        self.mean = latents.mean(0, keepdim=True)
        self.variance = latents.var(0, correction=0, keepdim=True)
        eps = self.predict_noise(self._prior.add_noise(latents, noise, t), t, text, condition)
        return (eps - noise).square().mean()

    def state_dict(self) -> dict[str, Tensor]:
        if self.mean is None or self.variance is None:
            return {}
        return {"mean": self.mean, "variance": self.variance}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean, self.variance = state.get("mean"), state.get("variance")

    def close(self) -> None:
        """Nothing was borrowed."""
