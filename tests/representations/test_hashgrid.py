"""The hash grid renderer: finite differences, known absorption, skipping that changes little, levels that come in."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from psdbench.cameras import CameraConfig, Cameras, orbit, sample_cameras
from psdbench.config import OptimizeConfig
from psdbench.representations.hashgrid import HashGrid, HashGridConfig, march
from psdbench.streams import Streams

SIZE = 16
SMALL = {
    "levels": 3,
    "coarsest": 3,
    "finest": 12,
    "table_size_log2": 8,
    "hidden": 8,
    "samples": 16,
    "occupancy": 8,
}


def make(content: float = 0.5, **fields: Any) -> HashGrid:
    """A small asset with random features of that spread, all levels shown."""
    generator = torch.Generator().manual_seed(0)
    asset = HashGrid(HashGridConfig(**(SMALL | fields)), generator)
    with torch.no_grad():
        asset.encoding.table.copy_(content * torch.randn(asset.encoding.table.shape, generator=generator))
    asset.begin_step(1.0)
    asset.occupancy.update(asset.extinction, None)
    return asset


def constant(density: float, **fields: Any) -> HashGrid:
    """The same density before the softplus everywhere in the cube, and grey."""
    asset = make(0.0, **({"blob_radius": 1e9, "blob_peak": 1e-3} | fields))
    with torch.no_grad():
        asset.hidden.zero_()
    asset.field = lambda points: torch.cat(  # type: ignore[method-assign]
        [points.new_full((1, len(points)), density), points.new_zeros(3, len(points))]
    )
    asset.occupancy.update(asset.extinction, None)
    return asset


def cameras(views: int = 2, seed: int = 1) -> Cameras:
    return sample_cameras(torch.Generator().manual_seed(seed), views, CameraConfig(overhead_share=0.5))


def doubled(views: Cameras) -> Cameras:
    return Cameras(*(t.double() for t in (views.azimuth, views.elevation, views.distance, views.fov)))


@pytest.mark.parametrize("surface", [False, True])
def test_gradients_equal_finite_differences(surface: bool) -> None:
    asset = make(levels=2, finest=5, table_size_log2=5, hidden=3, samples=6, occupancy=4).double()
    views, background = doubled(cameras(1)), torch.full((3,), 0.3, dtype=torch.float64)
    names = ["encoding.table", "hidden", "output"]

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, values, strict=True))
        render = torch.func.functional_call(asset, given, (views, 3, background, surface))
        if render.surface is None:
            return render.rgb, render.opacity
        return render.normals, render.surface.spread

    asset.forward = asset.render
    inputs = [asset.get_parameter(name).detach().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(outputs, inputs, eps=1e-6, atol=1e-5)


def test_pieces_of_a_ray_sum_to_its_way_through_the_cube() -> None:
    origins, directions = (rays.reshape(-1, 3).double() for rays in cameras(3).rays(SIZE))
    distances, lengths = march(origins, directions, 2 / 10)
    slabs = torch.stack([(side - origins) / directions for side in (-1.0, 1.0)]).sort(dim=0).values
    way = (slabs[1].amin(-1) - slabs[0].amax(-1)).clamp(min=0)
    torch.testing.assert_close(lengths.sum(-1), way)
    points = origins[:, None] + distances[..., None] * directions[:, None]
    assert points[lengths > 0].abs().max() <= 1 + 1e-9


def test_constant_density_is_absorbed_exponentially() -> None:
    asset = constant(0.5, density_scale=1.0)
    view = Cameras(*(torch.tensor([x]) for x in (0.0, 0.0, 4.0, 10.0)))
    opacity = asset.render(view, 8, torch.ones(3)).opacity
    expected = 1 - torch.exp(-math.log1p(math.exp(0.5)) * 2 / view.rays(8)[1][..., 0].abs())
    torch.testing.assert_close(opacity[:, 0], expected, atol=1e-5, rtol=0)


def test_empty_scene_shows_exactly_the_background() -> None:
    background = torch.tensor([[0.1, 0.7, 0.3], [1.0, 1.0, 1.0]])
    render = constant(-1e4).render(cameras(2), SIZE, background, surface=True)
    assert torch.equal(render.rgb, background[:, :, None, None].expand_as(render.rgb))
    assert render.opacity.abs().max() == 0
    assert render.depth.abs().max() == 0
    assert render.normals.abs().max() == 0


def test_blob_is_in_the_middle_and_the_corners_are_clear() -> None:
    asset = HashGrid(HashGridConfig(levels=2), torch.Generator().manual_seed(0))
    render = asset.render(orbit(2, 15.0, CameraConfig()), 64, torch.ones(3), surface=True)
    assert (render.opacity[:, 0, 32, 32] > 0.9).all()
    assert render.opacity[:, :, :4, :4].max() < 0.2
    towards = torch.nn.functional.normalize(orbit(2, 15.0, CameraConfig()).positions, dim=1)
    middle = torch.nn.functional.normalize(render.normals[:, :, 32, 32], dim=1)
    assert ((middle * towards).sum(1) > 0.98).all()


def test_skipping_empty_cells_changes_the_picture_by_little_and_saves_most_samples() -> None:
    asset, views = HashGrid(HashGridConfig(levels=2), torch.Generator().manual_seed(0)), cameras(1)
    skipping = asset.render(views, 32, torch.ones(3)).rgb
    origins, directions = (rays.reshape(-1, 3) for rays in views.rays(32))
    distances, lengths = march(origins, directions, 2 / 64)
    points = origins[:, None] + distances[..., None] * directions[:, None]
    share = (asset.occupancy.contains(points) & (lengths > 0)).sum() / (lengths > 0).sum()
    asset.occupancy.peak.fill_(float("inf"))
    torch.testing.assert_close(skipping, asset.render(views, 32, torch.ones(3)).rgb, atol=0.08, rtol=0)
    assert share < 0.5


def test_a_cell_is_left_only_after_it_was_found_empty_several_times() -> None:
    asset, generator = constant(3.0), torch.Generator().manual_seed(0)
    middle = torch.zeros(1, 3)
    found = []
    asset.field = lambda points: points.new_full((4, len(points)), -50.0)  # type: ignore[method-assign]
    for _ in range(30):
        found.append(bool(asset.occupancy.contains(middle)))
        asset.occupancy.update(asset.extinction, generator)
    assert found[:3] == [True] * 3
    assert not found[-1]
    assert found == sorted(found, reverse=True)


def test_levels_come_in_one_after_the_other() -> None:
    asset, points = make(first_levels=1.0, all_levels_at=0.5), torch.rand(50, 3) * 2 - 1
    finest = asset.encoding.levels[-1]

    def effect_of_the_finest(progress: float) -> float:
        asset.begin_step(progress)
        before = asset.field(points)
        with torch.no_grad():
            asset.encoding.table[finest.offset :] += 1.0
            after = asset.field(points)
            asset.encoding.table[finest.offset :] -= 1.0
        return (after - before).detach().abs().max().item()

    effects = [effect_of_the_finest(p) for p in (0.0, 0.2, 0.4, 0.5, 1.0)]
    assert effects[0] == effects[1] == 0
    assert 0 < effects[2] < effects[3]
    assert effects[4] == pytest.approx(effects[3], rel=1e-3)


def test_a_stored_asset_renders_the_same_bits() -> None:
    asset, views = make(), cameras(1)
    asset.begin_step(0.3)
    other = HashGrid(asset.config, torch.Generator().manual_seed(9))
    other.load_state_dict(asset.state_dict())
    assert torch.equal(*(a.render(views, SIZE, torch.ones(3)).rgb for a in (asset, other)))


def test_the_learned_background_is_seen_in_training_only_and_never_for_white() -> None:
    asset, views = make(background="learned"), cameras(2)
    with torch.no_grad():
        asset.surroundings[0] = 5.0
    background = torch.tensor([[1.0, 1.0, 1.0], [0.2, 0.2, 0.2]])
    solid = make().render(views, SIZE, background).rgb
    training = asset.train().render(views, SIZE, background)
    torch.testing.assert_close(training.rgb[0], solid[0])
    assert not torch.allclose(training.rgb[1], solid[1])
    (gradient,) = torch.autograd.grad(training.rgb.sum(), asset.surroundings)
    assert gradient.abs().sum() > 0
    torch.testing.assert_close(asset.eval().render(views, SIZE, background).rgb, solid)


def test_adam_moves_every_parameter_once() -> None:
    asset = make(background="learned")
    groups = asset.parameter_groups(OptimizeConfig())
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in asset.parameters()}
    assert [g["lr"] for g in groups] == [asset.config.table_learning_rate, asset.config.network_learning_rate]


def test_the_grid_of_what_is_empty_is_looked_at_now_and_then() -> None:
    asset, streams = make(occupancy_every=3), Streams(0)
    adam = torch.optim.Adam(asset.parameter_groups(OptimizeConfig()))
    peaks = [asset.occupancy.peak.clone()]
    for _ in range(3):
        asset.end_step(adam, 0.5, streams)
        peaks.append(asset.occupancy.peak.clone())
    assert [torch.equal(a, b) for a, b in pairwise(peaks)] == [True, True, False]


def test_smoothness_of_a_constant_field_is_zero() -> None:
    assert make().variation() > 0
    assert constant(1.0).variation() == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"coarsest": 9, "finest": 8},
        {"table_size_log2": 30},
        {"levels": 0},
        {"density_scale": 0.0},
        {"all_levels_at": 2.0},
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="hashgrid"):
        HashGridConfig(**fields)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_cuda_renders_the_same() -> None:
    asset, views = make(), cameras()
    expected = asset.render(views, SIZE, torch.ones(3)).rgb
    got = asset.cuda().render(views.to("cuda"), SIZE, torch.ones(3, device="cuda")).rgb
    torch.testing.assert_close(got.cpu(), expected, atol=1e-5, rtol=0)
