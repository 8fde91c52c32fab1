"""Classifier Score Distillation (arXiv 2310.19415).

    G = w(t) [ω₁ (ε̂(x_t; y) - ε̂(x_t; ∅)) - ω₂ (ε̂(x_t; n) - ε̂(x_t; ∅))]

The score of the implicit classifier p(y | x_t) alone: what classifier-free guidance adds to SDS, without the
rest. It has no fixed point of its own; between Gaussians of one spread it is the same push everywhere, for
every noise. The negative prompt n is the run's.

The paper's code starts at ω₂ = 0 and anneals to ω₂ = 1 over the first half of its coarse stage (DeepFloyd IF),
from positive against null to positive against negative, then back to 0.5 in its fine stage (Stable Diffusion).
That takes a written negative prompt; psdbench's default is empty, where ω₂ has no effect, so the default here
is the pure form, ω₂ = 0. The code also scales every gradient to unit length, which would change its weight
against the shared regularisers, and adds perp-neg; both are left out.
Cost per view: 2 denoiser forwards; 3 where ω₂ is not 0.
"""

from __future__ import annotations

from torch import Tensor

from psdbench.errors import UsageError
from psdbench.guidance import Method, Step, combine, denoise, method
from psdbench.schedules import Weighting, weight


@method("csd", paper="arXiv 2310.19415")
class CSD(Method):
    """Classifier Score Distillation."""

    weighting: Weighting = "uniform"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α; the paper's code uses 1"""
    positive_scale: float = 1.0
    """ω₁, weight of prompt against null; the paper's code uses 1"""
    negative_scale_start: float = 0.0
    """ω₂ at the first step, weight of negative prompt against null; the paper's code uses 0"""
    negative_scale: float = 0.0
    """ω₂ at the end of the annealing and after it; our choice, the paper's code reaches 1"""
    negative_anneal: float = 0.5
    """share of the run over which ω₂ goes linearly from start to end; the paper's code takes half its steps"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.negative_anneal <= 1:
            raise UsageError(
                f"csd.negative_anneal cannot be {self.negative_anneal}", "choose a share of the run in (0, 1]"
            )

    def gradient(self, step: Step) -> Tensor:
        noise, t, negative_scale = step.noise(), step.timestep[None], self._negative_scale(step.progress)
        x_t = step.prior.add_noise(step.latents, noise, t)
        texts = [step.text.positive, step.text.null, step.text.negative][: 3 if negative_scale else 2]
        eps_text, eps_null, *eps_negative = denoise(step, x_t, t, *texts)
        residual = self.positive_scale * (eps_text - eps_null)
        for eps in eps_negative:
            residual = residual - negative_scale * (eps - eps_null)
        return combine(residual, weight(self.weighting, *step.prior.alpha_sigma(t)))

    def _negative_scale(self, progress: float) -> float:
        """ω₂."""
        done = min(progress / self.negative_anneal, 1.0)
        return self.negative_scale_start + done * (self.negative_scale - self.negative_scale_start)
