"""Classifier-free guidance, and what may be done to it: perpendicular negative prompts, and a rescaled x̂0.

Tensors are [K, V, C, h, w], noises first, views second, as in the engine (`psdbench.guidance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from psdbench.priors import Prior

TINY = 1e-12


def cfg(eps_negative: Tensor, eps_text: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, ε̂_neg + ω (ε̂_text - ε̂_neg)."""
    return eps_negative + scale * (eps_text - eps_negative)


def perpendicular(eps: Tensor, direction: Tensor) -> Tensor:
    """What of `eps` is orthogonal to `direction`, image by image."""
    along, length = ((direction * other).sum((-3, -2, -1), keepdim=True) for other in (eps, direction))
    return eps - along / length.clamp_min(TINY) * direction


def repelled(
    eps_negative: Tensor, eps_text: Tensor, eps_others: Sequence[Tensor], weights: Tensor, scale: float
) -> Tensor:
    """Perp-neg's guidance (arXiv 2304.04968): ε̂_neg + ω (δ - Σ_i w_i δ_i^⊥), δ_i = ε̂_i - ε̂_neg.

    Of each other view's direction only what is perpendicular to the prompt's δ is subtracted: what the two have in
    common, the object, stays.
    """
    direction = eps_text - eps_negative
    eps = cfg(eps_negative, eps_text, scale)
    for other, weight in zip(eps_others, weights, strict=True):
        eps = eps - scale * weight[:, None, None, None] * perpendicular(other - eps_negative, direction)
    return eps


def rescaled(
    prior: Prior, x_t: Tensor, t: Tensor, eps_text: Tensor, eps: Tensor, share: float, set_size: int
) -> Tensor:
    """ε̂_ω whose x̂0 has lost a share ρ of the contrast that a large ω gave it (MVDream, arXiv 2308.16512).

    x̂0 ← (ρ r + 1 - ρ) x̂0 with r = std(x̂0 of the text branch)/std(x̂0), over each set of `set_size` views.
    """
    sets = (len(x_t), -1, set_size, *x_t.shape[2:])
    spread, spread_text = (
        prior.predict_x0(x_t, each, t).reshape(sets).flatten(2).std(2) for each in (eps, eps_text)
    )
    factor = share * spread_text / spread.clamp_min(TINY) + 1 - share
    factor = factor.repeat_interleave(set_size, 1)[..., None, None, None]
    sigma = prior.alpha_sigma(t)[1]
    return eps + (1 - factor) * (x_t / sigma - eps)
