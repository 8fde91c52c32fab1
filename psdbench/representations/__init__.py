"""3D representations: what is optimised, behind one renderer contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from psdbench.cameras import Cameras
from psdbench.config import OptimizeConfig


@dataclass(frozen=True)
class Render:
    """V rendered views; everything is differentiable but the depth."""

    rgb: Tensor
    """colours over the background, [V, 3, H, W] in [0, 1]"""
    opacity: Tensor
    """share of light that the scene stops, [V, 1, H, W] in [0, 1]"""
    depth: Tensor
    """mean distance at which it is stopped, [V, 1, H, W], world units; 0 where the scene is empty"""


class Representation(nn.Module, ABC):
    """A torch module whose parameters are the 3D asset; it fills the cube [-1, 1]³."""

    @abstractmethod
    def render(self, cameras: Cameras, size: int, background: Tensor) -> Render:
        """Render size x size pixels over solid colours [V, 3] or [3] in [0, 1], all on the asset's device."""

    @abstractmethod
    def parameter_groups(self, config: OptimizeConfig) -> list[dict[str, Any]]:
        """Adam's parameter groups with their learning rates."""

    @abstractmethod
    def variation(self) -> Tensor:
        """Total variation of the geometry: a scalar, 0 where it is constant."""

    def regularisation(self, render: Render, progress: float, config: OptimizeConfig) -> dict[str, Tensor]:
        """The weighted penalties `opacity`, `entropy` and `smoothness`; those of weight 0 are left out.

        They are sums over pixels or places, as the guidance is a sum over latents, so that their ratio to it
        does not depend on the resolution.
        """
        terms = {
            "opacity": (config.opacity_weight, lambda: fog(render)),
            "entropy": (config.entropy_weight, lambda: translucency(render)),
            "smoothness": (config.smoothness_weight, self.variation),
        }
        return {name: weight * term() for name, (weight, term) in terms.items() if weight}


def fog(render: Render) -> Tensor:
    """sqrt(opacity² + 0.01) summed over the pixels of a view: DreamFusion's sparsity loss, it clears fog."""
    return (render.opacity.square() + 0.01).sqrt().sum() / len(render.opacity)


def translucency(render: Render) -> Tensor:
    """Binary entropy of the opacity summed over the pixels of a view, nats: 0 if each is empty or opaque."""
    opacity = render.opacity.clamp(1e-3, 1 - 1e-3)
    entropy = nn.functional.binary_cross_entropy(opacity, opacity, reduction="sum")
    return entropy / len(opacity)
