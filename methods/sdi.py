"""Score Distillation via Inversion (arXiv 2405.15891).

    G = w(t) (ε̂_ω(x_t; y) - κ),   x_t = α x + σ κ,   κ = κ_t(x) by DDIM inversion of x;   with w = σ/α: G = x - x̂0

SDS whose noise is not drawn afresh at every step, which in the paper's reading is what smooths its results, but
is the noise that the prior would start from to draw this very render. The inversion has negative guidance and
ends a random way above t; the noise found there is put at t.

As the authors' code in threestudio: both guidances, ten strides, a little fresh noise on top of each. Differences,
on purpose: the noise is really put at t (there the latents of the end are shown to the denoiser as if they stood
at t), the inversion starts at t = 0 instead of a negative timestep, no perp-neg, and t has the shared schedule.
Cost per view: 2 ⌈t_end / stride⌉ + 2 denoiser forwards, at most 22 with ten strides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from psdbench.errors import UsageError
from psdbench.guidance import Method, Step, combine, guided_noise, method, noise_pool, weights
from psdbench.guidance.inversion import invert, strides
from psdbench.schedules import Weighting


@method("sdi", paper="arXiv 2405.15891")
class SDI(Method):
    """Score Distillation via Inversion."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance at x_t; the authors' value"""
    weighting: Weighting = "x0"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; the authors regress x̂0, which is σ/α"""
    inversion_guidance: float = -7.5
    """ω during the inversion, lower branch the negative prompt; the authors' value, with perp-neg"""
    inversion_steps: int = 10
    """strides over the whole diffusion, of which those up to t are made; the authors' value; 0 is SDS"""
    inversion_jitter: float = 1.0
    """largest way above t at which the inversion ends, in strides, drawn uniformly; the authors' value"""
    inversion_eta: float = 0.3
    """fresh noise after each stride, in standard deviations of the posterior; the authors' value"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inversion_steps", "inversion_jitter", "inversion_eta"):
            if getattr(self, name) < 0:
                raise UsageError(f"sdi.{name} cannot be {getattr(self, name)}", "choose at least 0")

    def gradient(self, step: Step) -> Tensor:
        noise = self._kappa(step) if self.inversion_steps else step.noise()
        pool = noise_pool(step, noise, self.guidance_scale)
        return combine(pool.residuals, weights(step, pool, self.weighting))

    def _kappa(self, step: Step) -> Tensor:
        """κ_t(x), the noise [1, V, C, h, w] that inversion finds in the renders."""
        prior, x = step.prior, step.latents
        stride = max(1, prior.num_timesteps // self.inversion_steps)
        reach = max(1, round(self.inversion_jitter * stride))
        above = int(torch.randint(reach, (1,), generator=step.streams["method"]))
        end = (step.timestep[None] + above).clamp_max(prior.num_timesteps - 1)
        start = torch.zeros_like(end)

        def guided(x_t: Tensor, t: Tensor) -> Tensor:
            return guided_noise(step, x_t, t, self.inversion_guidance)[1]

        clean = prior.add_noise(x, torch.zeros_like(x), start)
        x_end = invert(step, clean, strides(start, end, stride), guided, self.inversion_eta)
        alpha, sigma = prior.alpha_sigma(end)
        return (x_end - alpha * x) / sigma
