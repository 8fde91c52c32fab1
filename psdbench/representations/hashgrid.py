"""`hashgrid`: a multiresolution hash encoding with a small network behind it, volume-rendered in plain torch.

Density and colour of a point are the network's answer to its features, plus, for the density, a blob in the
middle to start from. Fine levels come in over the first part of a run (as in arXiv 2306.03092, section 3.2); only
samples in occupied cells are evaluated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from psdbench.cameras import Cameras
from psdbench.config import OptimizeConfig
from psdbench.representations import Render, Representation
from psdbench.representations.fit_field import fit_field
from psdbench.representations.hash_encoding import HashEncoding, make_levels
from psdbench.representations.occupancy import Occupancy
from psdbench.representations.volume import RaySamples, blob, composite

if TYPE_CHECKING:
    from psdbench.representations.shape import Shape
    from psdbench.streams import Streams


@dataclass(frozen=True)
class HashGridConfig:
    """Encoding, network, first content, and how it is sampled and learns."""

    levels: int = 6
    """grids of the encoding; 16 in Instant-NGP"""
    features: int = 2
    """numbers per vertex and level"""
    coarsest: int = 8
    """cells along an edge of the coarsest level; 16 in Instant-NGP"""
    finest: int = 64
    """cells along an edge of the finest level: about the pixels along the object; 512 for renders of 512"""
    table_size_log2: int = 15
    """rows of a level's table at most, as a power of two; 19 for renders of 512"""
    hidden: int = 32
    """width of the network's one hidden layer; 64 in Instant-NGP"""
    samples: int = 64
    """samples along an edge of the cube; a ray through its corners has 1.7 times as many"""
    density_scale: float = 100.0
    """extinction per world unit at a softplus output of 1; a field is smoother than a grid, and with the 10 of voxels
    outlines stayed soft and faces were washed out in 300 steps"""
    blob_radius: float = 0.5
    """radius at which the first density has fallen to softplus(0), world units"""
    blob_peak: float = 12.0
    """density before the softplus at the centre of the blob; it falls linearly with the radius, and steeply enough
    for most of the cube to be empty"""
    blob_floor: float = -12.0
    """lowest density of the blob before the softplus"""
    first_levels: float = 3.0
    """levels that are there from the first step on; the others come in one after the other"""
    all_levels_at: float = 0.5
    """progress, in [0, 1], at which the finest level is there in full"""
    occupancy: int = 32
    """cells along an edge of the grid that remembers what is empty"""
    occupancy_every: int = 16
    """steps between two updates of it"""
    occupancy_threshold: float = 0.01
    """opacity of one sample up to which a cell counts as empty"""
    background: Literal["solid", "learned"] = "solid"
    """what training views see behind the object: the drawn solid colours, or, in place of those that are not
    white, a learned colour by direction; what is rendered afterwards stands over white in both cases"""
    table_learning_rate: float = 0.1
    """Adam's step for the table, at the start; 0.01 in Instant-NGP and threestudio, for runs of 10 000 steps"""
    network_learning_rate: float = 0.02
    """Adam's step for the network and the learned background, at the start; 0.001 in threestudio"""

    def __post_init__(self) -> None:
        if not 1 <= self.coarsest <= self.finest <= 4096:
            raise ValueError("need 1 <= hashgrid.coarsest <= hashgrid.finest <= 4096")
        if not 4 <= self.table_size_log2 <= 24:
            raise ValueError("hashgrid.table_size_log2 must lie between 4 and 24")
        for name in ("levels", "features", "hidden", "samples", "occupancy", "occupancy_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"hashgrid.{name} must be at least 1")
        if min(self.density_scale, self.blob_radius, self.blob_peak) <= 0:
            raise ValueError("hashgrid.density_scale, blob_radius and blob_peak must be positive")
        if not (self.first_levels >= 1 and 0 <= self.all_levels_at <= 1):
            raise ValueError("need hashgrid.first_levels >= 1 and hashgrid.all_levels_at in [0, 1]")


class HashGrid(Representation):
    """The field and its renderer."""

    own_rates: ClassVar[bool] = True
    shown: Tensor
    age: Tensor

    def __init__(self, config: HashGridConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        levels = make_levels(config.levels, config.coarsest, config.finest, 2**config.table_size_log2)
        self.encoding = HashEncoding(levels, config.features, generator)
        self.hidden = nn.Parameter(torch.empty(config.hidden, config.features, config.levels))
        self.output = nn.Parameter(torch.empty(4, config.hidden))
        nn.init.kaiming_uniform_(self.hidden.flatten(1), nonlinearity="relu", generator=generator)
        nn.init.xavier_uniform_(self.output, generator=generator)
        if config.background == "learned":
            self.surroundings = nn.Parameter(torch.zeros(3, 9))
        self.register_buffer("shown", torch.tensor(float(min(config.first_levels, config.levels))))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))
        threshold = -math.log1p(-config.occupancy_threshold) / (2 / config.samples)
        self.occupancy = Occupancy(config.occupancy, threshold)
        self.occupancy.update(self.extinction, None)

    def field(self, points: Tensor) -> Tensor:
        """Density before the softplus and colour before the sigmoid, [4, M], at points [M, 3] in the cube."""
        count = min(math.ceil(float(self.shown)), self.config.levels)
        features = self.encoding(points, count)
        fading = (self.shown - torch.arange(count, device=points.device)).clamp(0, 1)
        weights = (self.hidden[:, :, :count] * fading).flatten(1)
        raw = self.output @ functional.relu(weights @ features.flatten(0, 1))
        config = self.config
        first = blob(points.norm(dim=-1), config.blob_peak, config.blob_radius, config.blob_floor)
        return torch.cat([raw[:1] + first, raw[1:]])

    def extinction(self, points: Tensor) -> Tensor:
        """Extinction per world unit [M] at points [M, 3]."""
        return functional.softplus(self.field(points)[0]) * self.config.density_scale

    def sample(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The field, as in the contract; nothing is skipped."""
        raw = self.field(points)
        return functional.softplus(raw[0]) * self.config.density_scale, raw[1:].sigmoid().t()

    def start_from(self, shape: Shape, generator: torch.Generator) -> None:
        """Fit the field to the solid of a shape, with the levels that are there at the start."""
        fit_field(self, shape.solid(2 * self.config.occupancy), generator)
        self.occupancy.update(self.extinction, None)

    def normals(self, points: Tensor) -> Tensor:
        """Unit vectors [3, M] to where the density falls, by central differences over a cell of the finest level."""
        step = 1 / self.config.finest
        shifts = step * torch.eye(3, device=points.device, dtype=points.dtype)
        slopes = [self.field(points - shift)[0] - self.field(points + shift)[0] for shift in shifts]
        return functional.normalize(torch.stack(slopes), dim=0)

    def render(self, cameras: Cameras, size: int, background: Tensor, surface: bool = False) -> Render:
        """As the contract says; in training mode over the learned background, if there is one."""
        origins, directions = (rays.reshape(-1, 3) for rays in cameras.rays(size))
        distances, lengths = march(origins, directions, 2 / self.config.samples)
        points = origins[:, None] + distances[..., None] * directions[:, None]
        places = (self.occupancy.contains(points) & (lengths > 0)).view(-1).nonzero().view(-1)
        points = points.view(-1, 3)[places].clamp(-1, 1)
        raw = self.field(points)
        extinction = functional.softplus(raw[:1]) * self.config.density_scale
        values = [extinction, raw[1:].sigmoid(), *([self.normals(points)] if surface else [])]
        known = torch.cat(values)
        spread = known.new_zeros(len(known), distances.numel()).index_copy(1, places, known)
        spread = spread.view(-1, *distances.shape)
        samples = RaySamples(spread[0] * lengths, spread[1:4], distances, spread[4:] if surface else None)
        return composite(samples, cameras, size, self._behind(directions, background, len(cameras), size))

    def _behind(self, directions: Tensor, background: Tensor, views: int, size: int) -> Tensor:
        """The background of the views: as given, or the learned one where that is not white."""
        if not self.training or self.config.background == "solid":
            return background
        x, y, z = directions.t()
        basis = torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1])
        learned = (self.surroundings @ basis).sigmoid().view(3, views, size, size).transpose(0, 1)
        solid = background.expand(views, 3)[:, :, None, None]
        return torch.where((solid == 1).all(dim=1, keepdim=True), solid, learned)

    def variation(self) -> Tensor:
        """Sum of absolute differences of the density, before the softplus, between neighbouring occupancy cells."""
        n = self.config.occupancy
        ticks = (torch.arange(n, device=self.output.device, dtype=self.output.dtype) + 0.5) * (2 / n) - 1
        points = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).view(-1, 3)
        density = self.field(points)[0].view(n, n, n)
        return torch.stack([density.diff(dim=axis).abs().sum() for axis in range(3)]).sum()

    def parameter_groups(self, config: OptimizeConfig) -> list[dict[str, Any]]:
        """Two groups for Adam: the table, and the network with the learned background."""
        network = [self.hidden, self.output]
        if self.config.background == "learned":
            network.append(self.surroundings)
        return [
            {"params": [self.encoding.table], "lr": self.config.table_learning_rate},
            {"params": network, "lr": self.config.network_learning_rate},
        ]

    def begin_step(self, progress: float) -> None:
        """Let the next levels in."""
        first, full = min(self.config.first_levels, self.config.levels), self.config.all_levels_at
        share = min(1.0, progress / full) if full else 1.0
        self.shown.fill_(first + (self.config.levels - first) * share)

    def end_step(self, adam: torch.optim.Adam, progress: float, streams: Streams) -> None:
        """Look for cells that have become empty or full."""
        self.age += 1
        if int(self.age) % self.config.occupancy_every == 0:
            self.occupancy.update(self.extinction, streams["structure"])


@torch.no_grad()
def march(origins: Tensor, directions: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Samples of rays [N, 3] through the cube [-1, 1]³: distances and the lengths that they stand for, [N, S] each.

    A ray is cut into pieces of length `step` from where it enters, the last one shorter; a sample lies in the
    middle of its piece. Lengths are 0 past the end, so that they sum to the ray's way through the cube.
    """
    inverse = 1 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
    first, second = (-1 - origins) * inverse, (1 - origins) * inverse
    near = torch.minimum(first, second).amax(-1).clamp(min=0)
    way = (torch.maximum(first, second).amin(-1) - near).clamp(min=0)
    count = max(1, math.ceil(float(way.max()) / step))
    starts = step * torch.arange(count, device=origins.device, dtype=origins.dtype)
    lengths = (way[:, None] - starts).clamp(0, step)
    return near[:, None] + starts + lengths / 2, lengths
