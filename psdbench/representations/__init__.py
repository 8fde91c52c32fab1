"""3D representations: what is optimised, behind one renderer contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from psdbench.cameras import Cameras
from psdbench.config import OptimizeConfig
from psdbench.representations.penalties import PENALTIES, wanted_penalties, weighted_penalties

if TYPE_CHECKING:
    import torch

    from psdbench.representations.shape import Shape
    from psdbench.streams import Streams

__all__ = ["PENALTIES", "Render", "Representation", "Surface", "over"]


@dataclass(frozen=True)
class Surface:
    """What a render knows of the surface; everything is differentiable."""

    normals: Tensor
    """outward normals in world axes, averaged over where light stops, [V, 3, H, W]: at most as long as the opacity"""
    averted: Tensor
    """squared cosine of those that face away from the camera, so averaged, [V, 1, H, W] in [0, 1]"""
    spread: Tensor
    """variance of the distance at which light stops, [V, 1, H, W], world units squared; 0 where the scene is empty"""


@dataclass(frozen=True)
class Render:
    """V rendered views; everything is differentiable but the depth."""

    rgb: Tensor
    """colours over the background, [V, 3, H, W] in [0, 1]"""
    opacity: Tensor
    """share of light that the scene stops, [V, 1, H, W] in [0, 1]"""
    depth: Tensor
    """mean distance at which it is stopped, [V, 1, H, W], world units; 0 where the scene is empty"""
    surface: Surface | None = None
    """only if asked for, since it costs time"""

    @property
    def normals(self) -> Tensor:
        """The surface's normals [V, 3, H, W]; raises ValueError for a render made without surface."""
        if self.surface is None:
            raise ValueError("render with surface=True to have normals")
        return self.surface.normals

    def picture(self, size: int) -> Tensor:
        """The colours as [V, 3, size, size], enlarged bilinearly if they are not of that size."""
        if self.rgb.shape[-1] == size:
            return self.rgb
        return nn.functional.interpolate(self.rgb, size=(size, size), mode="bilinear")


class Representation(nn.Module, ABC):
    """A torch module whose parameters and buffers are the 3D asset; it fills the cube [-1, 1]³.

    Its state_dict is all that a render depends on, so that one loaded from a file renders the same bits.
    """

    penalties: ClassVar[frozenset[str]] = frozenset(PENALTIES)
    """names of the penalties that mean something here; a plan refuses the others"""
    own_rates: ClassVar[bool] = False
    """whether its learning rates are parameters of its own, in place of the two of OptimizeConfig"""
    mesh_level: ClassVar[float] = 10.0
    """extinction per world unit at a mesh's surface: a third of the light stops within 0.04 units, a voxel"""

    @abstractmethod
    def render(self, cameras: Cameras, size: int, background: Tensor, surface: bool = False) -> Render:
        """Render size x size pixels over solid colours [V, 3] or [3] in [0, 1], all on the asset's device."""

    @abstractmethod
    def parameter_groups(self, config: OptimizeConfig) -> list[dict[str, Any]]:
        """Adam's parameter groups with their learning rates."""

    @abstractmethod
    def sample(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Extinction per world unit [M] and colours [M, 3] in [0, 1] at points [M, 3] in the cube."""

    @abstractmethod
    def start_from(self, shape: Shape, generator: torch.Generator) -> None:
        """Take over a given shape in place of the first content; `generator` draws what is left open."""

    @property
    def growth(self) -> float:
        """How many times as many parameters as at first it may have in the end."""
        return 1.0

    def variation(self) -> Tensor:
        """Total variation of the geometry: a scalar, 0 where it is constant. Only where `penalties` has smoothness."""
        raise ValueError(f"{type(self).__name__} has no total variation")

    def begin_step(self, progress: float) -> None:
        """Called before the render of a training step, for what grows over the run; progress is in [0, 1]."""

    def end_step(self, adam: torch.optim.Adam, progress: float, streams: Streams) -> None:
        """Called after Adam's step, for changes of structure; random numbers come from the stream `structure`.

        Who exchanges a Parameter for one of another shape does so in Adam's groups and state too.
        """

    def needs_surface(self, progress: float, config: OptimizeConfig) -> bool:
        """Whether a penalty of this moment is made of the render's surface."""
        return any(PENALTIES[name].of_surface for name in wanted_penalties(progress, config))

    def regularisation(self, render: Render, progress: float, config: OptimizeConfig) -> dict[str, Tensor]:
        """The weighted penalties by name (`psdbench.representations.penalties`) without those of weight 0."""
        return weighted_penalties(self, render, progress, config)


def over(colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
    """Premultiplied colours [V, 3, H, W] over a background: solid [3] or [V, 3], or a picture [V, 3, H, W].

    The result lies in [0, 1]; the rounding that this takes has no gradient, since a plain clamp would cut off
    the gradients of white pixels.
    """
    if background.dim() < 4:
        background = background.expand(len(colour), 3)[:, :, None, None]
    rgb = colour + (1 - opacity) * background
    return rgb + (rgb.clamp(0, 1) - rgb).detach()
