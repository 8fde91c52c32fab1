"""DDIM inversion (arXiv 2010.02502): from a clean latent up to a noisy one along the prior's own predictions.

Where noising draws ε, inversion asks the prior for it, step by step from t to t' > t:

    x̂0 = (x_t - σ_t ε̂(x_t)) / α_t,   x_t' = α_t' x̂0 + σ_t' ε̂(x_t)

The noise found belongs to the image: it is what the prior would have to start from to draw it. ISM and SDI
regress it instead of a drawn one. Tensors are [K, V, C, h, w] with timesteps [K, V], as in the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.errors import UsageError
from psdbench.priors.ddim import posterior_std
from psdbench.streams import randn

if TYPE_CHECKING:
    from psdbench.guidance import Step
    from psdbench.priors import Prior

Prediction = Callable[[Tensor, Tensor], Tensor]
"""ε̂ of x_t [K, V, C, h, w] at t [K, V], under whatever text and guidance an inversion follows"""


def strides(start: Tensor, end: Tensor, stride: int) -> list[Tensor]:
    """Timesteps from `start` to `end` (int64, one shape), `stride` apart, the last step shorter.

    An element that arrives before the others waits at its end, which leaves its latent as it is.
    """
    if stride < 1:
        raise UsageError(f"an inversion cannot climb in strides of {stride} timesteps", "choose at least 1")
    steps = -(-int((end - start).max()) // stride)
    return [torch.minimum(start + i * stride, end) for i in range(steps + 1)]


def ddim_step(prior: Prior, x_t: Tensor, eps: Tensor, t: Tensor, to: Tensor) -> Tensor:
    """x_t carried from t to another timestep, up or down, with ε̂ held fixed on the way."""
    return prior.add_noise(prior.predict_x0(x_t, eps, t), eps, to)


def invert(step: Step, x_t: Tensor, times: Sequence[Tensor], predict: Prediction, eta: float = 0.0) -> Tensor:
    """The latents at `times[-1]` of a DDIM chain that starts with `x_t` at `times[0]`.

    One call of `predict` per step. `eta` > 0 adds so many standard deviations of the forward process's
    posterior in noise after each step, from the stream "method", on top of what DDIM has (as SDI does,
    arXiv 2405.15891); at 0 nothing is drawn.
    """
    for t, to in pairwise(times):
        x_t = ddim_step(step.prior, x_t, predict(x_t, t), t, to)
        if eta:
            noise = randn(x_t.shape, step.streams["method"], x_t.device)
            x_t = x_t + eta * posterior_std(step.prior, t, to) * noise
    return x_t
