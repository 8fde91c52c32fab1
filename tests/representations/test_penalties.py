"""Penalties: their values where they are known, what they pull at, their weights, schedules and resolutions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from psdbench.cameras import CameraConfig, Cameras, orbit
from psdbench.config import OptimizeConfig
from psdbench.representations import PENALTIES, Render, Surface
from psdbench.representations.penalties import wanted_penalties
from psdbench.representations.volume import RaySamples, composite
from psdbench.representations.voxels import Voxels, VoxelsConfig

SIZE = 16
NONE = {f"{name}_weight": 0.0 for name in PENALTIES}


@pytest.fixture
def asset() -> Voxels:
    return Voxels(VoxelsConfig(resolution=16), torch.Generator().manual_seed(0))


@pytest.fixture
def views() -> Cameras:
    return orbit(2, 15.0, CameraConfig())


def value(name: str, render: Render, asset: Voxels, **fields: float) -> Tensor:
    config = OptimizeConfig(**({"size": SIZE} | NONE | {f"{name}_weight": 1.0} | fields))  # type: ignore[arg-type]
    terms = asset.regularisation(render, 0.5, config)
    assert set(terms) == {name}
    return terms[name]


def flat(opacity: float, averted: float = 0.0, spread: float = 0.0, views: int = 2) -> Render:
    """A render with the same values everywhere."""
    shape = (views, 1, SIZE, SIZE)
    layers = (torch.full(shape, x) for x in (averted, spread))
    image = torch.full(shape, opacity)
    return Render(image.expand(-1, 3, -1, -1), image, image, Surface(image.expand(-1, 3, -1, -1), *layers))


def test_values_that_are_known(asset: Voxels) -> None:
    pixels = SIZE**2
    half = flat(0.5, averted=0.25, spread=0.04)
    assert float(value("opacity", half, asset)) == pytest.approx(pixels * math.sqrt(0.26))
    assert float(value("entropy", half, asset)) == pytest.approx(pixels * math.log(2))
    assert float(value("orientation", half, asset)) == pytest.approx(pixels * 0.25)
    assert float(value("depth_variance", half, asset)) == 0  # not more than half opaque
    assert float(value("depth_variance", flat(0.6, spread=0.04), asset)) == pytest.approx(pixels * 0.04)
    assert float(value("entropy", flat(1.0), asset)) == pytest.approx(0, abs=2.1)  # clamped at 1e-3


def test_none_wanted_none_made(asset: Voxels) -> None:
    assert asset.regularisation(flat(0.5), 0.5, OptimizeConfig(**NONE)) == {}  # type: ignore[arg-type]
    assert not asset.needs_surface(0.5, OptimizeConfig())


def test_penalties_are_per_view_and_do_not_depend_on_the_resolution(asset: Voxels) -> None:
    for name in ("opacity", "entropy", "orientation", "depth_variance"):
        one, four = (value(name, flat(0.6, 0.3, 0.1, views), asset) for views in (1, 4))
        torch.testing.assert_close(one, four)
        enlarged = value(name, flat(0.6, 0.3, 0.1), asset, size=4 * SIZE)
        torch.testing.assert_close(enlarged, 16 * one)


def test_a_schedule_scales_the_weight_and_turns_the_surface_on() -> None:
    asset = Voxels(VoxelsConfig(resolution=4), torch.Generator())
    config = OptimizeConfig(
        orientation_weight=2.0, penalty_schedule=("orientation@0.5:0", "orientation@1:1"), opacity_weight=0.3
    )
    assert wanted_penalties(0.25, config) == {"opacity": 0.3}
    assert wanted_penalties(0.75, config) == {"opacity": 0.3, "orientation": 1.0}
    assert [asset.needs_surface(p, config) for p in (0.25, 0.75)] == [False, True]


def test_more_fog_more_penalty(asset: Voxels, views: Cameras) -> None:
    term = value("opacity", asset.render(views, SIZE, torch.ones(3)), asset)
    (gradient,) = torch.autograd.grad(term, asset.density)
    assert gradient.min() >= 0
    assert gradient.max() > 0


@pytest.mark.parametrize("name", PENALTIES)
def test_a_step_against_the_gradient_lowers_the_penalty(name: str, asset: Voxels, views: Cameras) -> None:
    with torch.no_grad():
        asset.density.add_(torch.randn(asset.density.shape, generator=torch.Generator().manual_seed(1)))

    def term() -> Tensor:
        return value(name, asset.render(views, SIZE, torch.ones(3), surface=True), asset)

    before = term()
    (gradient,) = torch.autograd.grad(before, asset.density)
    with torch.no_grad():
        asset.density.sub_(1e-3 * gradient / gradient.abs().max())
    assert term() < before


def test_normals_of_a_ball_point_outwards(asset: Voxels) -> None:
    with torch.no_grad():
        asset.density.mul_(5).clamp_(min=-40)
    view = orbit(4, 0.0, CameraConfig(rig_distance=3.0))
    render = asset.render(view, 33, torch.ones(3), surface=True)
    centre = torch.nn.functional.normalize(render.normals[:, :, 16, 16], dim=1)
    towards = torch.nn.functional.normalize(view.positions, dim=1)
    assert ((centre * towards).sum(1) > 0.99).all()
    assert render.surface is not None
    assert render.surface.averted.max() < 0.1
    assert render.normals.norm(dim=1).max() <= 1 + 1e-5


def test_normals_have_to_be_asked_for(asset: Voxels, views: Cameras) -> None:
    with pytest.raises(ValueError, match="surface=True"):
        asset.render(views, SIZE, torch.ones(3)).normals  # noqa: B018


def test_surface_of_two_layers_is_their_mixture(views: Cameras) -> None:
    view = views[:1]
    _, directions = view.rays(1)
    thickness = torch.tensor([[math.log(2.0), 50.0]])  # half of the light stops at 2, the rest at 4
    normals = torch.stack([-directions.view(3), directions.view(3)], dim=1)[:, None]
    render = composite(
        RaySamples(thickness, torch.zeros(3, 1, 2), torch.tensor([[2.0, 4.0]]), normals),
        view,
        1,
        torch.ones(3),
    )
    assert render.surface is not None
    assert float(render.depth) == pytest.approx(3.0)
    assert float(render.surface.spread) == pytest.approx(1.0)  # distances 2 and 4, mean 3
    assert float(render.surface.averted) == pytest.approx(0.5)
    assert float(render.normals.norm()) == pytest.approx(0.0, abs=1e-6)


def test_a_picture_is_enlarged_for_the_prior() -> None:
    render = flat(0.25)
    assert render.picture(SIZE) is render.rgb
    assert render.picture(64).shape == (2, 3, 64, 64)
    torch.testing.assert_close(render.picture(64), torch.full((2, 3, 64, 64), 0.25))
