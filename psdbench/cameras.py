"""Cameras: the training sampler, the fixed evaluation rig, and the words that name a view.

World axes: z is up and the front of an object faces +x. Azimuth 0 therefore looks at the front; it grows
counter-clockwise as seen from above, so azimuth 90 stands on +y. All angles are degrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from psdbench.camera_config import VIEW_NAMES, CameraConfig

OVERHEAD_ELEVATION = 60.0
OVERHEAD = "overhead view"
VIEW_WORDS = (*dict.fromkeys((*VIEW_NAMES[8], *VIEW_NAMES[4])), OVERHEAD)


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras that look at the origin: four tensors [V]; angles in degrees, distance in world units."""

    azimuth: Tensor
    elevation: Tensor
    distance: Tensor
    fov: Tensor

    def __len__(self) -> int:
        return self.azimuth.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Cameras:
        return Cameras(self.azimuth[index], self.elevation[index], self.distance[index], self.fov[index])

    def __iter__(self) -> Iterator[Cameras]:
        return (self[i : i + 1] for i in range(len(self)))

    @classmethod
    def join(cls, parts: Sequence[Cameras]) -> Cameras:
        """The cameras of all parts, in their order."""
        fields = ("azimuth", "elevation", "distance", "fov")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))

    def to(self, device: torch.device | str) -> Cameras:
        """The same cameras on another device."""
        return Cameras(*(t.to(device) for t in (self.azimuth, self.elevation, self.distance, self.fov)))

    @property
    def positions(self) -> Tensor:
        """Camera centres [V, 3] in world units."""
        azimuth, elevation = torch.deg2rad(self.azimuth), torch.deg2rad(self.elevation)
        unit = torch.stack(
            [elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], dim=-1
        )
        return unit * self.distance[:, None]

    def axes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors right, up and backward of each camera, [V, 3] each (OpenGL convention)."""
        backward = torch.nn.functional.normalize(self.positions, dim=-1)
        azimuth = torch.deg2rad(self.azimuth)
        right = torch.stack([-azimuth.sin(), azimuth.cos(), torch.zeros_like(azimuth)], dim=-1)
        return right, torch.linalg.cross(backward, right), backward

    def rays(self, size: int) -> tuple[Tensor, Tensor]:
        """Ray origins and unit directions, [V, size, size, 3] each; row 0 is the top of the image."""
        right, up, backward = (axis[:, None, None, :] for axis in self.axes())
        ticks = (torch.arange(size, device=self.azimuth.device) + 0.5) / size * 2 - 1
        half = torch.tan(torch.deg2rad(self.fov) / 2)[:, None, None, None]
        x, y = ticks[None, None, :, None] * half, -ticks[None, :, None, None] * half
        directions = torch.nn.functional.normalize(x * right + y * up - backward, dim=-1)
        origins = self.positions[:, None, None, :].expand_as(directions)
        return origins, directions

    def extrinsics(self) -> Tensor:
        """Camera-to-world matrices, flattened to [V, 16], with the translation scaled to unit length.

        This is the camera condition of MVDream (arXiv 2308.16512) and of VSD's camera-conditioned score.
        """
        right, up, backward = self.axes()
        pose = torch.zeros(len(self), 4, 4, device=self.azimuth.device)
        pose[:, :3, 0], pose[:, :3, 1], pose[:, :3, 2], pose[:, :3, 3] = right, up, backward, backward
        pose[:, 3, 3] = 1.0
        return pose.flatten(1)

    @property
    def is_overhead(self) -> Tensor:
        """Which cameras look from above, [V] bool."""
        return self.elevation > OVERHEAD_ELEVATION

    def view_words(self, named_azimuths: int = 8) -> list[str]:
        """The name of each view: overhead above 60° of elevation, else by the range that the azimuth lies in."""
        names = VIEW_NAMES[named_azimuths]
        sector = (self.azimuth / (360 / named_azimuths)).round().long() % named_azimuths
        high = self.is_overhead.tolist()
        return [OVERHEAD if up else names[i] for i, up in zip(sector.tolist(), high, strict=True)]

    def seen_as(self, word: str) -> Tensor:
        """Which cameras a view word fits, [V] bool: not more than 45° of azimuth from what it names.

        Generous on purpose: it holds for the narrow and for the wide use of a word.
        """
        high = self.is_overhead
        if word == OVERHEAD:
            return high
        centres = [
            360 / n * i for n, names in VIEW_NAMES.items() for i, name in enumerate(names) if name == word
        ]
        off = [((self.azimuth - centre + 180) % 360 - 180).abs() for centre in centres]
        return ~high & (torch.stack(off).amin(0) <= 45)


def sample_cameras(
    generator: torch.Generator, views: int, config: CameraConfig, set_size: int = 1
) -> Cameras:
    """Draw V training cameras: azimuths stratified over the circle with one common random offset.

    Where a prior sees `set_size` views together, each set has an offset of its own and one elevation, distance
    and field of view, its cameras evenly around the object and one after the other (MVDream).
    """
    draws = views // set_size
    circles = 1 if set_size == 1 else draws
    offset, pick, height, reach = (torch.rand(n, generator=generator) for n in (circles, draws, draws, draws))
    around = torch.arange(views // circles) * (360 / (views // circles))
    azimuth = ((offset[:, None] * 360 + around) % 360).flatten()
    low = config.elevation_min + height * (config.elevation_max - config.elevation_min)
    high = config.overhead_elevation_min + height * (
        config.overhead_elevation_max - config.overhead_elevation_min
    )
    elevation = torch.where(pick < config.overhead_share, high, low)
    distance = config.distance_min + reach * (config.distance_max - config.distance_min)
    fov = torch.full((draws,), config.fov)
    if config.fov_min is not None and config.fov_max is not None:
        fov = config.fov_min + torch.rand(draws, generator=generator) * (config.fov_max - config.fov_min)
    if config.relative_distance:
        distance = distance / torch.tan(torch.deg2rad(fov) / 2)
    each = (values.repeat_interleave(set_size) for values in (elevation, distance, fov))
    return Cameras(azimuth, *each)


def orbit(views: int, elevation: float, config: CameraConfig) -> Cameras:
    """V cameras evenly around the object at one elevation (degrees), the first at the front."""
    azimuth = torch.arange(views) * (360.0 / views)
    return Cameras(
        azimuth,
        torch.full((views,), float(elevation)),
        torch.full((views,), config.rig_distance),
        torch.full((views,), config.fov),
    )


def evaluation_rig(config: CameraConfig) -> Cameras:
    """The fixed evaluation cameras: `rig_views` around the object and one from above, the last."""
    around = orbit(config.rig_views, config.rig_elevation, config)
    return Cameras.join([around, orbit(1, config.rig_overhead_elevation, config)])


def with_view_words(prompt: str, cameras: Cameras, named_azimuths: int = 8) -> list[str]:
    """The prompt with the name of each view appended: ``a red cube, front view``; as it is with 0 names."""
    if not named_azimuths:
        return [prompt] * len(cameras)
    return [f"{prompt}, {word}" for word in cameras.view_words(named_azimuths)]
