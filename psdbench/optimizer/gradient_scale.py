"""The scale of a method's gradient: a switch of the shared optimizer, the same for every method of a comparison."""

from __future__ import annotations

from torch import Tensor

from psdbench.config import OptimizeConfig


def scale_gradient(gradient: Tensor, rms: float, config: OptimizeConfig) -> Tensor:
    """G [V, C, h, w] of root mean square `rms`, over all views of the step, as `grad_norm` wants it.

    ``unit`` makes the root mean square 1, the size of the noise: every method then stands in the same ratio to
    the penalties, which under ``none`` hangs on its guidance scale, w(t) and number of residuals. It also makes
    all steps weigh the same, so that w(t) and the fading of G towards the end are lost. ``clip`` touches only
    steps above `grad_clip`. A gradient of 0 stays 0.
    """
    wanted = {"none": rms, "unit": 1.0, "clip": min(rms, config.grad_clip)}[config.grad_norm]
    return gradient if wanted == rms or rms == 0 else gradient / rms * wanted
