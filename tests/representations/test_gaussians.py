"""Splats as a representation: the contract, and a structure that changes and survives files and interruptions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from psdbench.cameras import CameraConfig, Cameras, orbit, sample_cameras
from psdbench.config import OptimizeConfig
from psdbench.representations.densify import SHRINK, change_structure
from psdbench.representations.gaussians import Gaussians, GaussiansConfig
from psdbench.streams import Streams

SIZE = 32


def make(count: int = 40, seed: int = 0, **fields: Any) -> Gaussians:
    return Gaussians(GaussiansConfig(count=count, **fields), torch.Generator().manual_seed(seed))


def cameras(views: int = 2, seed: int = 1) -> Cameras:
    return sample_cameras(torch.Generator().manual_seed(seed), views, CameraConfig(overhead_share=0.5))


def adam_of(asset: Gaussians) -> torch.optim.Adam:
    return torch.optim.Adam(asset.parameter_groups(OptimizeConfig()), fused=True)


def train(
    asset: Gaussians, adam: torch.optim.Adam, steps: int, streams: Streams, progress: float = 0.5
) -> None:
    """Steps towards a red picture."""
    for _ in range(steps):
        render = asset.render(cameras(), SIZE, torch.ones(3))
        adam.zero_grad()
        (render.rgb - torch.tensor([1.0, 0.0, 0.0])[:, None, None]).square().sum().backward()
        adam.step()
        asset.end_step(adam, progress, streams)


def test_first_content_is_a_ball_in_the_middle() -> None:
    render = make(1500).render(orbit(4, 15.0, CameraConfig()), 64, torch.ones(3))
    assert (render.opacity[:, 0, 30:34, 30:34].mean((1, 2)) > 0.5).all()
    assert render.opacity[:, :, :4, :4].max() == 0
    assert render.depth[:, 0, 30:34, 30:34].mean() == pytest.approx(2.6, abs=0.4)


def test_empty_scene_shows_exactly_the_background() -> None:
    asset, background = make(), torch.tensor([[0.1, 0.7, 0.3], [1.0, 1.0, 1.0]])
    with torch.no_grad():
        asset.opacities.fill_(-50.0)
    render = asset.render(cameras(), SIZE, background, surface=True)
    assert torch.equal(render.rgb, background[:, :, None, None].expand_as(render.rgb))
    assert render.opacity.abs().max() == render.depth.abs().max() == render.normals.abs().max() == 0


def test_normals_are_the_shortest_axes_turned_to_the_camera() -> None:
    asset, view = make(1), orbit(2, 0.0, CameraConfig())
    with torch.no_grad():
        asset.means.zero_()
        asset.rotations.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        asset.log_scales.copy_(torch.tensor([[0.01, 0.3, 0.3]]).log())  # a disc across x
        asset.opacities.fill_(6.0)
    render = asset.render(view, SIZE, torch.ones(3), surface=True)
    for number, side in enumerate((1.0, -1.0)):
        expected = torch.tensor([side, 0, 0]) * render.opacity[number, 0, 16, 16]
        torch.testing.assert_close(render.normals[number, :, 16, 16], expected, atol=1e-5, rtol=0)
    assert render.surface is not None
    assert render.surface.spread.max() < 1e-4
    assert float(render.depth[0, 0, 16, 16]) == pytest.approx(2.6, abs=1e-4)


def test_views_are_rendered_independently() -> None:
    asset, views = make(200), cameras(3)
    together = asset.render(views, SIZE, torch.ones(3)).rgb
    alone = torch.cat([asset.render(view, SIZE, torch.ones(3)).rgb for view in views])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_faint_and_huge_ones_go_and_the_most_opaque_stays() -> None:
    asset = make(6, densify_share=0.0)
    with torch.no_grad():
        asset.opacities[:3] = -9.0
        asset.log_scales[3, 1] = 3.0
    expected = asset.means[4:].clone()
    change_structure(asset, adam_of(asset), torch.Generator())
    torch.testing.assert_close(asset.means.detach(), expected)
    with torch.no_grad():
        asset.opacities.copy_(torch.tensor([-9.0, -8.0]))
    change_structure(asset, adam_of(asset), torch.Generator())
    assert len(asset.means) == 1
    assert asset.opacities.tolist() == [-8.0]


def test_those_pulled_at_hardest_are_split_if_large_and_doubled_if_small() -> None:
    asset = make(10, densify_share=0.2, split_scale=0.05, seed=2)
    with torch.no_grad():
        asset.log_scales.copy_(torch.linspace(0.01, 0.1, 10).log()[:, None].expand(10, 3))
    asset.pull = torch.tensor([0, 9.0, 0, 0, 5, 1, 1, 8, 0, 0])
    asset.seen = torch.tensor([1, 3.0, 1, 1, 5, 1, 1, 1, 0, 0])  # means: 3 of the second, 8 of the eighth
    before = {name: value.detach().clone() for name, value in asset.named_parameters()}
    change_structure(asset, adam_of(asset), torch.Generator().manual_seed(0))
    assert len(asset.means) == 12
    stay = [0, 1, 2, 3, 4, 5, 6, 8, 9]
    torch.testing.assert_close(asset.means[:9].detach(), before["means"][stay])
    torch.testing.assert_close(asset.means[9].detach(), before["means"][1])  # small: doubled
    halves = slice(10, 12)
    torch.testing.assert_close(asset.log_scales[halves].exp(), before["log_scales"][[7, 7]].exp() / SHRINK)
    distance = (asset.means[halves] - before["means"][7]).norm(dim=1)
    assert (distance > 0).all()
    assert (distance < 5 * 0.08 * 3**0.5).all()
    torch.testing.assert_close(asset.colours[halves].detach(), before["colours"][[7, 7]])
    assert asset.pull.shape == asset.seen.shape == (12,)
    assert asset.pull.sum() == asset.seen.sum() == 0


def test_there_are_never_more_than_allowed() -> None:
    asset, streams = make(30, max_count=36, densify_share=0.5, densify_every=2), Streams(0)
    adam = adam_of(asset)
    train(asset, adam, 8, streams)
    assert 30 < len(asset.means) <= 36


def test_moments_follow_their_gaussians_and_begin_at_zero_for_new_ones() -> None:
    asset = make(20, densify_share=0.3, split_scale=1e-3, densify_every=1000)
    adam, streams = adam_of(asset), Streams(0)
    train(asset, adam, 3, streams)
    before = zip(asset.means.detach(), adam.state[asset.means]["exp_avg"], strict=True)
    rows = {tuple(mean.tolist()): moment for mean, moment in before}
    change_structure(asset, adam, streams["structure"])
    moments = adam.state[asset.means]["exp_avg"]
    assert len(moments) == len(asset.means) == 26
    for place, moment in zip(asset.means.detach()[:14], moments[:14], strict=True):
        assert torch.equal(moment, rows[tuple(place.tolist())])
    assert moments[14:].abs().max() == 0
    train(asset, adam, 2, streams)  # and Adam goes on with the new shapes
    assert moments.shape == adam.state[asset.means]["exp_avg"].shape
    assert adam.state[asset.means]["exp_avg"][14:].abs().max() > 0


def test_the_number_changes_only_in_its_part_of_the_run() -> None:
    for progress, changes in ((0.05, False), (0.5, True), (0.9, False)):
        asset = make(30, densify_every=2)
        train(asset, adam_of(asset), 2, Streams(0), progress)
        assert (len(asset.means) != 30) == changes


def test_a_stored_asset_of_another_size_renders_the_same_bits() -> None:
    asset, other, views = make(50), make(7, seed=5), cameras()
    before = other.means
    other.load_state_dict(asset.state_dict())
    assert other.means is before  # what Adam holds is still the parameter
    assert torch.equal(*(a.render(views, SIZE, torch.ones(3)).rgb for a in (asset, other)))
    torn = {**asset.state_dict(), "colours": torch.zeros(3, 3)}
    with pytest.raises(RuntimeError, match="size mismatch"):
        make(7).load_state_dict(torn)


def test_training_paints_the_scene() -> None:
    asset, streams = make(150, densify_every=10), Streams(0)
    train(asset, adam_of(asset), 40, streams)
    render = asset.render(orbit(1, 15.0, CameraConfig()), SIZE, torch.ones(3))
    red, green, blue = render.rgb[0, :, 16, 16].tolist()
    assert red > 0.8 > 0.4 > max(green, blue)


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 0},
        {"count": 9, "max_count": 8},
        {"radius": 0.0},
        {"first_opacity": 1.0},
        {"densify_every": 0},
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="gaussians"):
        GaussiansConfig(**fields)
