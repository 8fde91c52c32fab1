"""Scorers of whole assets: closed forms on made-up views, and known faults on renders of the embedded world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, evaluation_rig, orbit
from psdbench.scorers import load_scorer
from psdbench.scorers.asset import AssetViews, score_views
from psdbench.scorers.consistency import nearest, project
from psdbench.scorers.coverage import Coverage
from psdbench.scorers.floaters import Floaters, component_areas
from psdbench.world.known import known_views
from psdbench.world.scenes import render_prompt

RIG = evaluation_rig(CameraConfig())


def known(prompt: str, two_faced: bool = False, size: int = 48) -> AssetViews:
    views = known_views(prompt, RIG, size, two_faced)
    return AssetViews(prompt, views.rgb, RIG, views.opacity, views.depth)


def flat(opacity: torch.Tensor) -> AssetViews:
    """One view [H, W] of that opacity."""
    return AssetViews("x", torch.ones(1, 3, *opacity.shape), opacity=opacity[None, None].float())


def mean(id: str, views: AssetViews) -> float:
    return float(load_scorer(id).score_asset(views).mean())  # type: ignore[attr-defined]


def test_known_views_are_the_ground_truth_with_its_depth() -> None:
    for prompt in ("a red cube with a face", "a red cube next to a blue sphere"):
        torch.testing.assert_close(known(prompt).images, render_prompt(prompt, RIG, 48), atol=1e-5, rtol=0)
    sphere = known_views("a blue sphere", orbit(1, 0, CameraConfig()), 33)
    assert float(sphere.depth[0, 0, 16, 16]) == pytest.approx(2.6 - 0.76 * 0.95, abs=0.01)
    assert float(sphere.depth[0, 0, 0, 0]) == 0


def test_two_faced_objects_look_from_behind_as_from_the_front() -> None:
    one, two = known("a red cube with a face"), known("a red cube with a face", two_faced=True)
    assert torch.equal(one.images[0], two.images[0])
    assert (one.images[4] - two.images[4]).abs().max() > 0.5
    assert torch.equal(one.depth, two.depth)


@pytest.mark.parametrize(
    ("opacity", "score"),
    [
        (torch.zeros(40, 40), 0.0),
        (torch.ones(40, 40), 0.0),
        (torch.full((40, 40), 0.3), 0.3 * 0.7),
    ],
)
def test_coverage_of_nothing_everything_and_fog(opacity: torch.Tensor, score: float) -> None:
    assert Coverage("coverage").score_asset(flat(opacity)).item() == pytest.approx(score, abs=1e-6)


def test_coverage_grows_with_a_solid_object_up_to_a_size() -> None:
    scores = []
    for side in (2, 4, 20):
        opacity = torch.zeros(40, 40)
        opacity[10 : 10 + side, 10 : 10 + side] = 1
        scores.append(Coverage("coverage").score_asset(flat(opacity)).item())
    assert scores == pytest.approx([4 / 1600 / 0.05, 16 / 1600 / 0.05, 1.0])


def test_a_bare_picture_is_cut_out_of_its_backdrop() -> None:
    images = torch.full((2, 3, 20, 20), 0.8)
    images[1, 0, 5:10, 5:15] = 0.1
    assert AssetViews("x", images).coverage.sum((1, 2, 3)).tolist() == [0, 50]


def test_floaters_by_hand() -> None:
    opacity = torch.zeros(30, 30)
    opacity[5:15, 5:15] = 1
    opacity[20, 20] = opacity[21, 21] = 1  # one piece of two, by a corner
    scores = Floaters("floaters").score_asset(flat(opacity))
    assert scores.item() == pytest.approx(2 / 102)
    opacity[20:25, 2:6] = 1  # a fifth of the largest: an object of its own
    assert Floaters("floaters").score_asset(flat(opacity)).item() == pytest.approx(2 / 122)
    assert Floaters("floaters").score_asset(flat(torch.zeros(9, 9))).isnan().all()


def flooded(mask: np.ndarray) -> list[int]:
    """Areas of the 8-connected components by flood fill."""
    left, areas = {tuple(place) for place in np.argwhere(mask)}, []
    while left:
        stack, area = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            area += 1
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            stack += around
        areas.append(area)
    return sorted(areas)


@settings(deadline=None, max_examples=60)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
def test_components_are_those_of_a_flood_fill(mask: np.ndarray) -> None:
    assert sorted(component_areas(mask).tolist()) == flooded(mask)


def test_components_of_a_long_winding_path() -> None:
    mask = np.zeros((41, 41), dtype=bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    assert component_areas(mask).tolist() == [mask.sum()]


def test_projection_undoes_the_rays() -> None:
    camera = RIG[3:4]
    origins, rays = camera.rays(16)
    grid, before = project(camera, (origins + 2.2 * rays)[0].flatten(0, 1))
    ticks = (torch.arange(16) + 0.5) / 16 * 2 - 1
    expected = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1).flatten(0, 1)
    torch.testing.assert_close(grid, expected, atol=1e-5, rtol=0)
    assert before.all()
    assert not project(camera, 2 * camera.positions)[1].any()


def test_neighbours_are_the_nearest_by_angle() -> None:
    assert sorted(nearest(RIG, 0)) == [1, 7]
    assert sorted(nearest(RIG, 4)) == [3, 5]


@pytest.mark.parametrize("prompt", ["a yellow cylinder with a face", "a red cube next to a blue sphere"])
def test_a_real_object_is_consistent_and_its_faults_are_not(prompt: str) -> None:
    good = known(prompt)
    scores = load_scorer("consistency").score_asset(good)  # type: ignore[attr-defined]
    assert ((scores > 0.8) & (scores <= 1)).all()
    whole = float(scores.mean())
    noise = torch.rand(good.images.shape, generator=torch.Generator().manual_seed(0))
    assert mean("consistency", replace(good, images=noise)) < whole - 0.15
    assert mean("consistency", replace(good, images=good.images.roll(3, 0))) < whole - 0.02
    assert good.depth is not None
    shell = good.depth - 0.5 * (good.depth > 0)  # each view believes in a surface half a unit nearer
    assert mean("consistency", replace(good, depth=shell)) < whole - 0.1


def test_consistency_has_no_score_where_it_cannot_tell() -> None:
    good = known("a red cube")
    for lacking in (replace(good, depth=None), replace(good, cameras=None)):
        assert load_scorer("consistency").score_asset(lacking).isnan().all()  # type: ignore[attr-defined]
    assert good.opacity is not None
    views = replace(good, opacity=good.opacity * (torch.arange(9) != 2)[:, None, None, None])
    scores = load_scorer("consistency").score_asset(views)  # type: ignore[attr-defined]
    assert scores[2].isnan()
    assert not scores[0].isnan()


@pytest.mark.parametrize("shape", ["cube", "sphere", "cylinder", "cone"])
def test_janus_finds_the_second_face(shape: str) -> None:
    prompt = f"a green {shape} with a face"
    one, two = known(prompt, size=64), known(prompt, True, 64)
    scores = load_scorer("janus_shapes").score_asset(one)  # type: ignore[attr-defined]
    assert ((scores >= 0) & (scores < 0.2)).all()
    assert mean("janus_shapes", two) > 0.3


def test_janus_does_not_ask_where_the_front_is() -> None:
    """Cameras and object turned together, and the same views in another order, change nothing."""
    views = known("a red cube with a face", True, 64)
    turned = Cameras((RIG.azimuth + 90) % 360, RIG.elevation, RIG.distance, RIG.fov)
    assert mean("janus_shapes", replace(views, cameras=turned)) == pytest.approx(
        mean("janus_shapes", views), abs=1e-5
    )
    assert load_scorer("janus_shapes").score_asset(replace(views, cameras=None)).isnan().all()  # type: ignore[attr-defined]


@pytest.fixture
def asset_scorers() -> Iterator[object]:
    return (load_scorer(id) for id in ("consistency", "coverage", "floaters", "janus_shapes"))


def test_scorers_of_assets_have_hashes_of_their_own_and_take_single_pictures(asset_scorers) -> None:
    hashes = set()
    for scorer in asset_scorers:
        scores = scorer.score(torch.full((1, 3, 64, 64), 0.5), ["a red cube"], RIG[:1])
        assert scores.shape == (1,)
        assert not scorer.differentiable
        hashes.add(scorer.sha256)
    assert len(hashes) == 4
    assert {len(each) for each in hashes} == {64}


def test_pictures_of_two_prompts_are_two_assets() -> None:
    images = torch.ones(4, 3, 20, 20)
    images[:2, :, 5:15, 5:15] = 0
    scores = load_scorer("coverage").score(images, ["a", "a", "b", "b"])
    assert scores.tolist() == pytest.approx([1, 1, 0, 0])


def test_view_words_are_given_where_the_cameras_are_known() -> None:
    class Words:
        id, sha256, view_words, higher_is_better, differentiable = "w", "0", True, True, True

        def score(self, images, prompts, cameras=None):
            self.prompts = list(prompts)
            return images.new_zeros(len(images))

    words, views = Words(), known("a red cube", size=8)
    assert score_views(words, views) == [0.0] * 9
    assert words.prompts[0] == "a red cube, front view"
    score_views(words, replace(views, cameras=None))
    assert words.prompts == ["a red cube"] * 9
