"""Shapes to start from: solids with and without holes, signed distances, neighbours."""

from __future__ import annotations

import pytest
import torch

from psdbench.representations.shape import Shape, Solid

pytest.importorskip("scipy")


def sphere(count: int, radius: float = 0.6) -> Shape:
    points = torch.nn.functional.normalize(
        torch.randn(count, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    return Shape(points * radius, (points + 1) / 2)


@pytest.mark.parametrize(("resolution", "count"), [(24, 5000), (64, 20_000)])
def test_what_is_enclosed_is_solid(resolution: int, count: int) -> None:
    solid = sphere(count).solid(resolution)
    ticks = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    radius = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij")).norm(dim=0)
    cell = 2 / resolution
    assert solid.inside[radius < 0.6 - cell].all()
    assert not solid.inside[radius > 0.6 + 2 * cell].any()
    depth = solid.depth() * cell
    torch.testing.assert_close(depth, 0.6 - radius, atol=2 * cell, rtol=0)
    x = solid.colours[-3, resolution // 2, resolution // 2, 0]
    assert x > 0.95  # the colour of the nearest point of the surface


def test_an_open_surface_is_solid_itself() -> None:
    x, y = torch.meshgrid(torch.linspace(-0.5, 0.5, 60), torch.linspace(-0.5, 0.5, 60), indexing="ij")
    sheet = torch.stack([x, y, torch.zeros_like(x)], dim=-1).view(-1, 3)
    inside = Shape(sheet, sheet.abs()).solid(20).inside
    assert inside.any(dim=1).any(dim=0).sum() <= 2  # layers along z
    assert inside.sum() == pytest.approx(100, rel=0.3)


@pytest.mark.parametrize("value", [True, False])
def test_a_grid_without_a_surface_has_only_one_side(value: bool) -> None:
    depth = Solid(torch.full((4, 4, 4), value), torch.zeros(4, 4, 4, 3)).depth()
    assert ((depth > 0) == value).all()


def test_neighbours_are_the_nearest_of_the_chosen() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.3, 0, 0], [0.0, 0.001, 0]])
    shape = Shape(points, torch.zeros(4, 3))
    distances = shape.neighbour_distances(torch.tensor([0, 1, 2]), count=1)
    torch.testing.assert_close(distances, torch.tensor([0.1, 0.1, 0.2]))


def test_a_shape_has_a_colour_for_each_point() -> None:
    with pytest.raises(ValueError, match="as many colours"):
        Shape(torch.zeros(3, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="at least one point"):
        Shape(torch.zeros(0, 3), torch.zeros(0, 3))
