"""One scene, three renderers: a faint round cloud, which has a closed form, and a solid ball of two colours."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from psdbench.cameras import CameraConfig, Cameras, orbit
from psdbench.representations import Render, Representation
from psdbench.representations.gaussians import Gaussians, GaussiansConfig
from psdbench.representations.hashgrid import HashGrid, HashGridConfig
from psdbench.representations.shape import Shape
from psdbench.representations.voxels import Voxels, VoxelsConfig

SIZE = 33
SPREAD, FAINT = 0.25, 0.05
"""standard deviation of the cloud, and the opacity through its middle"""
COLOUR = torch.tensor([0.8, 0.3, 0.1])
VIEW = orbit(1, 20.0, CameraConfig(rig_distance=3.0))
RADIUS = 0.6


def cloud_extinction(points: Tensor) -> Tensor:
    peak = -math.log1p(-FAINT) / (math.tau**0.5 * SPREAD)
    return peak * torch.exp(-0.5 * (points.norm(dim=-1) / SPREAD) ** 2)


def voxel_cloud() -> Representation:
    asset = Voxels(VoxelsConfig(density_scale=1.0), torch.Generator())
    ticks = (torch.arange(48) + 0.5) / 24 - 1
    points = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1)
    with torch.no_grad():
        asset.density.copy_(torch.log(torch.expm1(cloud_extinction(points).clamp(min=1e-9))))
        asset.colour.copy_(COLOUR.logit().expand_as(asset.colour))
    return asset


def hash_cloud() -> Representation:
    """The renderer and its sampling with the cloud for a field: what the network holds is tested elsewhere."""
    asset = HashGrid(HashGridConfig(density_scale=1.0, occupancy_threshold=1e-5), torch.Generator())

    def field(points: Tensor) -> Tensor:
        density = torch.log(torch.expm1(cloud_extinction(points).clamp(min=1e-9)))
        return torch.cat([density[None], COLOUR.logit()[:, None].expand(3, len(points))])

    asset.field = field  # type: ignore[method-assign]
    asset.occupancy.update(asset.extinction, None)
    return asset


def gaussian_cloud() -> Representation:
    asset = Gaussians(GaussiansConfig(count=1), torch.Generator())
    with torch.no_grad():
        asset.means.zero_()
        asset.log_scales.fill_(math.log(SPREAD))
        asset.opacities.fill_(math.log(FAINT / (1 - FAINT)))
        asset.colours.copy_(COLOUR.logit()[None])
    return asset


@pytest.mark.parametrize("make", [voxel_cloud, hash_cloud, gaussian_cloud])
def test_a_faint_cloud_is_what_its_closed_form_says(make) -> None:
    """Opacity 1 - exp(-τ exp(-d²/2s²)) for a ray at distance d of the centre; tolerance 0.0045 of 1.

    The splat is the one that is approximate: its bell is of opacity, not of thickness, and ends at 1/255.
    """
    render = make().render(VIEW, SIZE, torch.zeros(3))
    origins, directions = (rays[0] for rays in VIEW.rays(SIZE))
    distance = torch.linalg.cross(origins, directions).norm(dim=-1)
    expected = -torch.expm1(math.log1p(-FAINT) * torch.exp(-0.5 * (distance / SPREAD) ** 2))
    torch.testing.assert_close(render.opacity[0, 0], expected, atol=0.0045, rtol=0)
    torch.testing.assert_close(render.rgb[0], COLOUR[:, None, None] * expected, atol=0.0045, rtol=0)
    assert float(render.depth[0, 0, SIZE // 2, SIZE // 2]) == pytest.approx(3.0, abs=0.01)


def ball() -> Shape:
    """Points on a ball whose front (+x) half is red and whose back half is blue."""
    points = torch.nn.functional.normalize(
        torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    red, blue = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])
    return Shape(points * RADIUS, torch.where(points[:, :1] > 0, red, blue))


def from_ball(name: str) -> Representation:
    generator = torch.Generator().manual_seed(0)
    made = {
        "voxels": lambda: Voxels(VoxelsConfig(), generator),
        "hashgrid": lambda: HashGrid(HashGridConfig(levels=4, finest=32, hidden=16), generator),
        "gaussians": lambda: Gaussians(GaussiansConfig(count=3000), generator),
    }[name]()
    made.start_from(ball(), generator)
    return made.eval()


def expected_ball(view: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage, depth and whether the red half is seen, [H, W] each."""
    origins, directions = (rays[0] for rays in view.rays(64))
    along = (origins * directions).sum(-1)
    root = along**2 - origins.square().sum(-1) + RADIUS**2
    depth = -along - root.clamp(min=0).sqrt()
    return root > 0, depth, (origins + depth[..., None] * directions)[..., 0] > 0


@pytest.mark.parametrize("name", ["voxels", "hashgrid", "gaussians"])
@torch.no_grad()
def test_a_solid_ball_is_where_and_as_red_as_it_is(name: str) -> None:
    """Tolerances, away from outline and seam by two pixels: opacity 0.1, colour 0.12 on average, depth 0.08."""
    pytest.importorskip("scipy")
    asset = from_ball(name)
    view = orbit(4, 20.0, CameraConfig(rig_distance=3.0))[1:2]  # from the side: half of it is red
    render: Render = asset.render(view, 64, torch.ones(3))
    covered, depth, red = expected_ball(view)
    inner, outer = (eroded(mask, 2) for mask in (covered, ~covered))
    assert render.opacity[0, 0][inner].mean() > 0.9
    assert render.opacity[0, 0][outer].mean() < 0.05
    for side, colour in ((red, [0.9, 0.1, 0.1]), (~red, [0.1, 0.1, 0.9])):
        seen = render.rgb[0][:, inner & eroded(side, 2)].mean(1)
        torch.testing.assert_close(seen, torch.tensor(colour), atol=0.12, rtol=0)
    assert (render.depth[0, 0] - depth)[inner].abs().mean() < 0.08


def eroded(mask: Tensor, pixels: int) -> Tensor:
    """The mask without a rim of so many pixels."""
    grown = torch.nn.functional.max_pool2d((~mask).float()[None], 2 * pixels + 1, 1, pixels)
    return grown[0] == 0
