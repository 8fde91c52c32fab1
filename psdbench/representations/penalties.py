"""Regularisers: named penalties on a render or on an asset, each with a weight and, if wanted, a schedule.

They are sums over pixels or places, as the guidance is a sum over latents, so that their ratio to it does not
depend on the resolution: those over the pixels of a render that is enlarged for the prior count as often as
the enlarged one has pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from psdbench.config import OptimizeConfig
from psdbench.ramps import factor

if TYPE_CHECKING:
    from psdbench.representations import Render, Representation


@dataclass(frozen=True)
class Penalty:
    """A term of the loss; its weight is the field ``NAME_weight`` of OptimizeConfig."""

    term: Callable[[Representation, Render], Tensor]
    of_surface: bool = False
    """whether the render must have a surface"""
    of_pixels: bool = True
    """whether it is a sum over pixels"""


def fog(render: Render) -> Tensor:
    """sqrt(opacity² + 0.01) summed over the pixels of a view: DreamFusion's sparsity loss, it clears fog."""
    return (render.opacity.square() + 0.01).sqrt().sum() / len(render.opacity)


def translucency(render: Render) -> Tensor:
    """Binary entropy of the opacity summed over the pixels of a view, nats: 0 if each is empty or opaque.

    The opaque loss of threestudio.
    """
    opacity = render.opacity.clamp(1e-3, 1 - 1e-3)
    entropy = nn.functional.binary_cross_entropy(opacity, opacity, reduction="sum")
    return entropy / len(opacity)


def averted_normals(render: Render) -> Tensor:
    """Squared cosine of normals that face away where light stops, summed over the pixels of a view.

    Ref-NeRF's orientation loss (arXiv 2112.03907, equation 11), as DreamFusion uses it; the weights carry no
    gradient, so that it turns surfaces and does not clear them away.
    """
    assert render.surface is not None
    return render.surface.averted.sum() / len(render.opacity)


def thick_surface(render: Render) -> Tensor:
    """Variance of the depth summed over the pixels of a view that are more than half opaque, world units squared.

    The z-variance loss of HiFA (arXiv 2305.18766, section 3.3): it draws density together into a surface.
    """
    assert render.surface is not None
    solid = (render.opacity > 0.5).detach()
    return (render.surface.spread * solid).sum() / len(render.opacity)


PENALTIES = {
    "opacity": Penalty(lambda asset, render: fog(render)),
    "entropy": Penalty(lambda asset, render: translucency(render)),
    "smoothness": Penalty(lambda asset, render: asset.variation(), of_pixels=False),
    "orientation": Penalty(lambda asset, render: averted_normals(render), of_surface=True),
    "depth_variance": Penalty(lambda asset, render: thick_surface(render), of_surface=True),
}


def wanted_penalties(progress: float, config: OptimizeConfig) -> dict[str, float]:
    """The penalties of this moment with their weights, schedule included; without those of weight 0."""
    weights = {
        name: getattr(config, f"{name}_weight") * factor(config.penalty_schedule, name, progress)
        for name in PENALTIES
    }
    return {name: weight for name, weight in weights.items() if weight}


def weighted_penalties(
    asset: Representation, render: Render, progress: float, config: OptimizeConfig
) -> dict[str, Tensor]:
    """Every wanted penalty of an asset and its render, times its weight."""
    enlargement = (config.size / render.opacity.shape[-1]) ** 2
    terms = {}
    for name, weight in wanted_penalties(progress, config).items():
        penalty = PENALTIES[name]
        terms[name] = weight * (enlargement if penalty.of_pixels else 1) * penalty.term(asset, render)
    return terms
