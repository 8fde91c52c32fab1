"""The texts that a step may ask the prior for: the prompt, its view words, the negative prompt, other views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.camera_config import VIEW_NAMES
from psdbench.cameras import Cameras

if TYPE_CHECKING:
    from psdbench.priors import Prior

WORDS = tuple(dict.fromkeys(VIEW_NAMES[4]))
"""front, side and back: the views that a prompt repels"""
CENTRES = tuple(tuple(90.0 * i for i, name in enumerate(VIEW_NAMES[4]) if name == word) for word in WORDS)
"""azimuths that each of them names, degrees"""


@dataclass(frozen=True)
class OtherViews:
    """Prompts that name the views which this one is not, as perp-neg repels them."""

    texts: tuple[Tensor, ...]
    """two embeddings of every view, [V, L, D] each"""
    weights: Tensor
    """of these, [2, V], at least 0"""


def other_views(prior: Prior, prompt: str, cameras: Cameras, weight: float) -> OtherViews:
    """The two of front, side and back that are farther from each view, with their weights.

    `weight` holds from 90° of azimuth away from what a word names, none within 45°, and a line lies between: where
    two words fit, neither is repelled. Views from above repel nothing.
    """
    away = torch.stack([_degrees_from(cameras.azimuth, centres) for centres in CENTRES])
    order = away.argsort(0)[1:]
    weights = weight * ((away.gather(0, order) - 45) / 45).clamp(0, 1) * ~cameras.is_overhead
    texts = [prior.encode_text([f"{prompt}, {WORDS[i]}" for i in row]) for row in order.tolist()]
    return OtherViews(tuple(texts), weights)


def _degrees_from(azimuth: Tensor, centres: Sequence[float]) -> Tensor:
    """To the nearest of some azimuths."""
    return torch.stack([((azimuth - centre + 180) % 360 - 180).abs() for centre in centres]).amin(0)


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings, each [V, L, D]."""

    positive: Tensor
    """the prompt with each view's words"""
    negative: Tensor
    """the negative prompt, the lower branch of classifier-free guidance"""
    null: Tensor
    """the empty prompt"""
    plain: Tensor
    """the prompt without view words"""
    others: OtherViews | None = None
    """the prompts of other views, where guidance repels them (perp-neg)"""

    @classmethod
    def encode(cls, prior: Prior, prompts: Sequence[str], plain: str, negative: str = "") -> TextEmbeddings:
        """Encode one prompt per view and what goes with them; the prior caches every prompt."""
        lower, null, bare = (prior.encode_text([p] * len(prompts)) for p in (negative, "", plain))
        return cls(prior.encode_text(prompts), lower, null, bare)
