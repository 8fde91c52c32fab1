"""The training sampler: single cameras, and sets of them for priors that see several views together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, sample_cameras, with_view_words

MVDREAM = {
    "fov_min": 15.0,
    "fov_max": 60.0,
    "relative_distance": True,
    "distance_min": 0.8,
    "distance_max": 1.0,
}


def draw(views: int, set_size: int, seed: int = 0, **config: float | bool) -> Cameras:
    generator = torch.Generator().manual_seed(seed)
    return sample_cameras(generator, views, CameraConfig(overhead_share=0.0, **config), set_size)  # type: ignore[arg-type]


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_a_set_goes_around_the_object_at_one_height_distance_and_lens(seed: int, sets: int) -> None:
    cameras = draw(4 * sets, 4, seed, **MVDREAM)
    steps = (cameras.azimuth.view(sets, 4).diff(dim=1)) % 360
    torch.testing.assert_close(steps, torch.full((sets, 3), 90.0), rtol=0, atol=1e-3)
    for values in (cameras.elevation, cameras.distance, cameras.fov):
        assert torch.equal(values, values[::4].repeat_interleave(4))


def test_sets_are_drawn_apart() -> None:
    cameras = draw(8, 4, **MVDREAM)
    for values in (cameras.azimuth, cameras.elevation, cameras.distance, cameras.fov):
        assert (values[0] - values[4]).abs() > 1e-3


def test_relative_distance_keeps_the_size_of_the_object() -> None:
    cameras = draw(4000, 4, **MVDREAM)
    height = cameras.distance * torch.tan(torch.deg2rad(cameras.fov) / 2)
    assert 0.8 <= height.min() < 0.81
    assert 0.99 < height.max() <= 1.0001
    assert 15 <= cameras.fov.min() < 16
    assert 59 < cameras.fov.max() <= 60
    assert abs(torch.corrcoef(torch.stack([height, cameras.fov]))[0, 1]) < 0.1


def test_without_sets_the_draws_are_what_they_were() -> None:
    """One offset, then share, elevation and distance of every view, from one generator."""
    generator = torch.Generator().manual_seed(7)
    offset, _, height, reach = (torch.rand(n, generator=generator) for n in (1, 3, 3, 3))
    cameras = draw(3, 1, 7)
    assert torch.equal(cameras.azimuth, (offset * 360 + torch.arange(3) * 120.0) % 360)
    assert torch.equal(cameras.elevation, 30 * height)
    torch.testing.assert_close(cameras.distance, 2.5 + 0.2 * reach, rtol=1e-6, atol=1e-6)
    assert torch.equal(cameras.fov, torch.full((3,), 45.0))


def test_no_names_no_words() -> None:
    assert with_view_words("a fox", draw(2, 1), 0) == ["a fox", "a fox"]
    assert all(prompt.startswith("a fox, ") for prompt in with_view_words("a fox", draw(2, 1), 4))


@pytest.mark.parametrize(
    "bad", [{"fov_min": 15.0}, {"fov_min": 60.0, "fov_max": 15.0}, {"named_azimuths": 3}, {"fov_max": 40.0}]
)
def test_what_does_not_fit_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        CameraConfig(**bad)  # type: ignore[arg-type]
