"""`gaussians`: 3D Gaussian splats of one colour each, 3DGS (arXiv 2308.04079).

Their number changes over a run: those that are pulled at hardest are split or doubled, faint ones go. Which are
pulled at hardest is a matter of rank, not of a threshold as in 3DGS: methods differ in the scale of their gradients
by orders of magnitude, and the number of Gaussians must not depend on that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from psdbench.cameras import Cameras
from psdbench.config import OptimizeConfig
from psdbench.representations import Render, Representation, Surface, over
from psdbench.representations.densify import change_structure
from psdbench.representations.shape import COLOUR_RANGE, Shape
from psdbench.representations.splat_field import splat_field
from psdbench.representations.splatting import Blended, blend, rotation_matrices, spacing

if TYPE_CHECKING:
    from psdbench.streams import Streams


@dataclass(frozen=True)
class GaussiansConfig:
    """First content, how the number changes, and how they learn."""

    count: int = 1500
    """Gaussians at the start; 5000 in DreamGaussian, for renders of 512"""
    max_count: int = 4000
    """most Gaussians that there may be"""
    radius: float = 0.6
    """of the ball that they fill evenly at the start, world units"""
    first_scale: float = 0.6
    """first standard deviation as a share of the way between neighbours"""
    first_opacity: float = 0.1
    """of each Gaussian; 3DGS and DreamGaussian"""
    colour_noise: float = 0.1
    """standard deviation of the first colours around grey, before the sigmoid"""
    densify_from: float = 0.1
    """progress in [0, 1] from which the number changes"""
    densify_until: float = 0.7
    """progress up to which it does"""
    densify_every: int = 20
    """steps between two changes; 100 in 3DGS and 50 in DreamGaussian, for longer runs"""
    densify_share: float = 0.1
    """share of the Gaussians that a change doubles: those whose centres were pulled at hardest on the image"""
    split_scale: float = 0.06
    """standard deviation above which one is split into two smaller ones instead of doubled, world units"""
    prune_opacity: float = 0.02
    """opacity below which one goes; 0.005 in 3DGS and 0.01 in DreamGaussian"""
    prune_scale: float = 0.5
    """standard deviation above which one goes, world units"""
    position_learning_rate: float = 0.0025
    """Adam's step for the centres, world units, at the start; 0.001 in DreamGaussian, for longer runs. With 0.005, and
    0.02 for the standard deviations, splats grew into hairs"""
    scale_learning_rate: float = 0.01
    """Adam's step for the logarithms of the standard deviations, at the start; 0.005 in 3DGS"""
    rotation_learning_rate: float = 0.01
    """Adam's step for the quaternions, at the start; 0.005 in DreamGaussian"""
    opacity_learning_rate: float = 0.05
    """Adam's step for the opacities before the sigmoid, at the start; 0.05 in 3DGS"""
    colour_learning_rate: float = 0.1
    """Adam's step for the colours before the sigmoid, at the start"""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.max_count:
            raise ValueError("need 1 <= gaussians.count <= gaussians.max_count")
        if min(self.radius, self.first_scale, self.split_scale, self.prune_scale) <= 0:
            raise ValueError("gaussians.radius, first_scale, split_scale and prune_scale must be positive")
        if not 0 < self.first_opacity < 1 or not 0 <= self.prune_opacity < 1:
            raise ValueError("gaussians.first_opacity and prune_opacity must lie between 0 and 1")
        if self.densify_every < 1 or not 0 <= self.densify_share <= 1:
            raise ValueError("need gaussians.densify_every >= 1 and densify_share in [0, 1]")


class Gaussians(Representation):
    """N Gaussians; N is that of the stored tensors when a state is loaded."""

    penalties: ClassVar[frozenset[str]] = frozenset({"opacity", "entropy", "depth_variance"})
    own_rates: ClassVar[bool] = True
    mesh_level: ClassVar[float] = 2.0
    """splats overlap as shells of low extinction: at 10 a distilled asset has holes where it looks closed"""
    pull: Tensor
    seen: Tensor
    age: Tensor

    def __init__(self, config: GaussiansConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config, n = config, config.count
        directions = functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)
        radii = config.radius * torch.rand(n, 1, generator=generator) ** (1 / 3)
        self.means = nn.Parameter(directions * radii)
        first = config.first_scale * spacing(n, config.radius)
        self.log_scales = nn.Parameter(torch.full((n, 3), math.log(first)))
        self.rotations = nn.Parameter(functional.normalize(torch.randn(n, 4, generator=generator), dim=-1))
        self.opacities = nn.Parameter(torch.logit(torch.full((n,), config.first_opacity)))
        self.colours = nn.Parameter(config.colour_noise * torch.randn(n, 3, generator=generator))
        self.register_buffer("pull", torch.zeros(n))
        self.register_buffer("seen", torch.zeros(n))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))
        self._blended: list[Blended] = []

    def render(self, cameras: Cameras, size: int, background: Tensor, surface: bool = False) -> Render:
        """As the contract says; depths are those of the centres."""
        offsets = self.means - cameras.positions.to(self.means)[:, None]
        distances = offsets.norm(dim=-1, keepdim=True)
        colours = self.colours.sigmoid().expand(len(cameras), -1, -1)
        rotations = functional.normalize(self.rotations, dim=-1)
        features = [colours, distances]
        if surface:
            features += [distances.square(), self._normals(rotations, offsets)]
        blended = blend(
            self.means,
            rotations,
            self.log_scales.exp(),
            self.opacities.sigmoid(),
            torch.cat(features, dim=-1),
            cameras,
            size,
        )
        if torch.is_grad_enabled():
            self._blended.append(blended)
        values, opacity = blended.features, blended.opacity
        shares = values[:, 3:5] / opacity.clamp(min=1e-6)
        rgb = over(values[:, :3], opacity, background)
        return Render(
            rgb, opacity, shares[:, :1].detach(), self._surface(values, shares) if surface else None
        )

    def sample(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the Gaussians, as in the contract."""
        turn = rotation_matrices(functional.normalize(self.rotations, dim=-1))
        axes = turn * self.log_scales.exp()[:, None, :]
        return splat_field(points, self.means, axes, self.opacities.sigmoid(), self.colours.sigmoid())

    @torch.no_grad()
    def start_from(self, shape: Shape, generator: torch.Generator) -> None:
        """`count` points of a shape's surface, round, as wide as the way to their neighbours, nearly opaque."""
        chosen = torch.randperm(len(shape.points), generator=generator)[: self.config.count]
        self.means.data = shape.points[chosen].clone()
        scales = self.config.first_scale * shape.neighbour_distances(chosen)
        self.log_scales.data = scales.log()[:, None].repeat(1, 3)
        self.rotations.data = self.rotations.data[: len(chosen)]
        self.opacities.data = torch.full((len(chosen),), 2.0)
        self.colours.data = shape.colours[chosen].clamp(*COLOUR_RANGE).logit()
        self.pull, self.seen = self.pull[: len(chosen)], self.seen[: len(chosen)]

    @property
    def growth(self) -> float:
        """Up to `max_count`."""
        return self.config.max_count / self.config.count

    def _normals(self, rotations: Tensor, offsets: Tensor) -> Tensor:
        """The shortest axis of each, turned towards the cameras, [V, N, 3]."""
        shortest = self.log_scales.argmin(-1)[:, None, None].expand(-1, 3, 1)
        normals = rotation_matrices(rotations).gather(2, shortest)[..., 0]
        return torch.where((normals * offsets).sum(-1, keepdim=True) > 0, -normals, normals)

    def _surface(self, values: Tensor, shares: Tensor) -> Surface:
        spread = (shares[:, 1:] - shares[:, :1].square()).clamp(min=0)
        return Surface(values[:, 5:], torch.zeros_like(spread), spread)

    def parameter_groups(self, config: OptimizeConfig) -> list[dict[str, Any]]:
        """One group for Adam per kind of parameter."""
        rates = {
            "means": self.config.position_learning_rate,
            "log_scales": self.config.scale_learning_rate,
            "rotations": self.config.rotation_learning_rate,
            "opacities": self.config.opacity_learning_rate,
            "colours": self.config.colour_learning_rate,
        }
        return [{"params": [getattr(self, name)], "lr": rate} for name, rate in rates.items()]

    def begin_step(self, progress: float) -> None:
        """Forget renders of a step that was not completed."""
        self._blended.clear()

    @torch.no_grad()
    def end_step(self, adam: torch.optim.Adam, progress: float, streams: Streams) -> None:
        """Remember how hard each was pulled at; now and then split, double and remove."""
        self.age += 1
        for blended in self._blended:
            if blended.centres.grad is not None:
                self.pull += (blended.centres.grad.norm(dim=-1) * blended.seen).sum(0)
                self.seen += blended.seen.sum(0)
        self._blended.clear()
        wanted = self.config.densify_from <= progress <= self.config.densify_until
        if wanted and int(self.age) % self.config.densify_every == 0:
            change_structure(self, adam, streams["structure"])

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **named: Any
    ) -> None:
        """Take the number of Gaussians from the stored tensors, if they agree on one."""
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        lists = {name: tensor for name, tensor in own.items() if tensor.dim()}
        counts = {len(state_dict[prefix + name]) for name in lists if prefix + name in state_dict}
        if len(counts) == 1:
            for tensor in lists.values():
                tensor.data = tensor.data.new_empty(*counts, *tensor.shape[1:])
        super()._load_from_state_dict(state_dict, prefix, *rest, **named)
