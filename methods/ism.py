"""Interval Score Matching (LucidDreamer, arXiv 2311.11284).

    x_s from x by DDIM inversion under the null prompt, x_t from x_s by one more step, s = t - δ

    G = w(t) (ε̂_ω(x_t; y) - ε̂(x_s; ∅)),   w = σ_t/α_t

The target is what the inversion itself predicted last, not a drawn noise: it belongs to the render, so the
pseudo ground truth of one render is nearly the same at every step. As in the authors' code the inversion starts
at a noised render: at t = 0, where the noise is faint, unless `inversion_steps` strides do not reach down to it.

Left out, as not of the method: perp-neg, flips, an offset on the noise, the authors' narrower range of t.
Cost per view: at most 8 denoiser forwards, ⌈s / stride⌉ <= 5 to reach x_s, 1 to leave it, 2 at x_t.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.errors import UsageError
from psdbench.guidance import Method, Pool, Step, combine, denoise, guided_noise, method, weights
from psdbench.guidance.inversion import ddim_step, invert, strides
from psdbench.schedules import Weighting


@method("ism", paper="arXiv 2311.11284")
class ISM(Method):
    """Interval Score Matching."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance at x_t; the authors' value"""
    weighting: Weighting = "x0"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; the authors' code uses σ/α"""
    interval: float = 0.08
    """δ after the warm-up, share of the diffusion's length; the authors' delta_t = 80 of 1000"""
    interval_start: float = 0.1
    """δ at the first step, share of the diffusion's length; the authors' delta_t_start = 100 of 1000"""
    warm_up: float = 0.3
    """share of the run over which δ falls linearly to its end; the authors' 1500 of 5000 steps"""
    inversion_stride: float = 0.2
    """between two points of the inversion, share of the diffusion's length; the authors' xs_delta_t = 200"""
    inversion_steps: int = 5
    """most strides up to x_s; fewer than reach it start from a render noised higher; the authors' xs_inv_steps"""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {
            "interval": 0,
            "interval_start": 0,
            "warm_up": 0,
            "inversion_steps": 0,
            "inversion_stride": 1e-4,
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UsageError(f"ism.{name} cannot be {getattr(self, name)}", f"choose at least {bound}")

    def gradient(self, step: Step) -> Tensor:
        stride = max(1, round(self.inversion_stride * step.prior.num_timesteps))
        t = step.timestep[None]
        s = (t - self._interval(step)).clamp_min(0)
        start = (s - self.inversion_steps * stride).clamp_min(0)

        def unconditional(x_t: Tensor, at: Tensor) -> Tensor:
            return denoise(step, x_t, at, step.text.null)[0]

        x_start = step.prior.add_noise(step.latents, step.noise(), start)
        x_s = invert(step, x_start, strides(start, s, stride), unconditional)
        eps_s = unconditional(x_s, s)
        x_t = ddim_step(step.prior, x_s, eps_s, s, t)
        pool = Pool(eps_s, t, x_t, *guided_noise(step, x_t, t, self.guidance_scale))
        return combine(pool.residuals, weights(step, pool, self.weighting))

    def _interval(self, step: Step) -> int:
        """δ in timesteps."""
        early = max(0.0, 1 - step.progress / self.warm_up) if self.warm_up else 0.0
        return round(
            (self.interval + early * (self.interval_start - self.interval)) * step.prior.num_timesteps
        )
