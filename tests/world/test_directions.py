"""The direction of a cube is found from clean renders of other elevations, distances, colours and sizes."""

from __future__ import annotations

import pytest
import torch

from psdbench.camera_config import VIEW_NAMES
from psdbench.cameras import Cameras
from psdbench.world.directions import named_azimuths, outlines, turned_as, turns
from psdbench.world.scenes import render_prompt

AZIMUTHS = torch.tensor([1.0, 12.0, 33.0, 44.0, 58.0, 71.0, 178.0, 220.0, 301.0, 349.0])


def around(elevation: float, distance: float) -> Cameras:
    same = torch.ones_like(AZIMUTHS)
    return Cameras(AZIMUTHS, elevation * same, distance * same, 45 * same)


@pytest.mark.parametrize(("elevation", "distance"), [(0.0, 2.5), (14.0, 2.7), (27.0, 2.6)])
@pytest.mark.parametrize("prompt", ["a red cube", "a large yellow cube", "a small purple cube"])
def test_turn_of_clean_cubes(prompt: str, elevation: float, distance: float) -> None:
    """To 15 degrees; its mirror image has the same outline, and counts as far from a side or a corner as it."""
    found = turns(render_prompt(prompt, around(elevation, distance)))

    def from_a_side(turn: torch.Tensor) -> torch.Tensor:
        return ((turn + 45) % 90 - 45).abs()

    assert (from_a_side(found) - from_a_side(AZIMUTHS)).abs().max() <= 15


def test_a_word_fits_its_own_direction_and_not_the_next() -> None:
    names = VIEW_NAMES[8]
    steps = 45.0 * torch.arange(8)
    images = render_prompt("a green cube", Cameras(steps, 0 * steps + 15, 0 * steps + 2.6, 0 * steps + 45))
    assert turned_as(images, named_azimuths(names)).all()
    assert not turned_as(images, named_azimuths(names[1:] + names[:1])).any()


def test_outlines_do_not_depend_on_place_and_size() -> None:
    picture = torch.ones(1, 3, 64, 64)
    picture[..., 10:26, 20:28] = 0.2
    moved = torch.full((1, 3, 64, 64), 0.6)
    moved[..., 30:62, 5:21] = 0.2
    assert (outlines(picture) - outlines(moved)).abs().mean() < 0.02
    assert outlines(picture).mean() == pytest.approx(0.5, abs=0.02)
    assert not outlines(torch.ones(1, 3, 64, 64)).any()
