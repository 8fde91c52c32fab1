"""The renderer against geometry that is known exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, evaluation_rig
from psdbench.world.grammar import parse
from psdbench.world.renderer import apply_look, gaussian_blur, render, render_layers
from psdbench.world.scenes import COLOURS, Look, place, render_prompt


def _camera(azimuth: float, elevation: float = 0.0, distance: float = 2.6) -> Cameras:
    return Cameras(*(torch.tensor([float(v)]) for v in (azimuth, elevation, distance, 45.0)))


def test_silhouette_of_a_sphere_has_the_radius_of_its_tangent_cone() -> None:
    scene = parse("a red sphere").scene
    radius = place(scene)[0].half
    _, alpha = render_layers([scene], _camera(0), size=128)
    tangent = radius / math.sqrt(2.6**2 - radius**2) / math.tan(math.radians(22.5))
    measured = math.sqrt(float(alpha.mean()) * 4 / math.pi)
    assert measured == pytest.approx(tangent, rel=0.01)


def test_front_of_a_cube_is_a_square_of_known_side() -> None:
    scene = parse("a red cube").scene
    half = place(scene)[0].half
    _, alpha = render_layers([scene], _camera(0), size=128)
    side = half / (2.6 - half) / math.tan(math.radians(22.5))
    assert math.sqrt(float(alpha.mean())) == pytest.approx(side, rel=0.02)


@pytest.mark.parametrize("shape", ["cube", "sphere", "cone", "cylinder"])
def test_face_is_on_the_front_only(shape: str) -> None:
    bare, faced = parse(f"a red {shape}").scene, parse(f"a red {shape} with a face").scene
    for azimuth, differs in ((0, True), (180, False)):
        plain, painted = (render([s], _camera(azimuth), torch.ones(1, 3)) for s in (bare, faced))
        assert bool((plain != painted).any()) == differs


def test_first_object_stands_on_top_and_left() -> None:
    above = render([parse("a red cube on top of a blue cube").scene], _camera(0), torch.ones(1, 3))[0]
    assert above[0, 16, 32] > above[2, 16, 32]
    assert above[2, 48, 32] > above[0, 48, 32]
    beside = render([parse("a red cube next to a blue cube").scene], _camera(0), torch.ones(1, 3))[0]
    assert beside[0, 32, 16] > beside[2, 32, 16]


def test_colours_are_told_apart_in_every_view() -> None:
    rig = evaluation_rig(CameraConfig())
    for view in range(len(rig)):
        camera = rig[view : view + 1]
        means = {}
        for colour in COLOURS:
            rgb, alpha = render_layers([parse(f"a {colour} sphere").scene], camera)
            means[colour] = (rgb.sum((2, 3)) / alpha.sum((2, 3)))[0]
        for a in COLOURS:
            for b in COLOURS:
                assert a == b or (means[a] - means[b]).abs().max() > 0.08


def test_look_is_deterministic_and_stays_in_range() -> None:
    image = render_prompt("a pink cone", _camera(30))
    look = Look(saturation=0.4, blur=1.0, noise=0.1, shift=(0.1, -0.1))
    once, twice = (apply_look(image.clone(), [look], torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(once, twice)
    assert once.min() >= 0
    assert once.max() <= 1
    assert not torch.equal(once, image)


def test_blur_keeps_the_mean_and_flat_pictures() -> None:
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(gaussian_blur(flat, 1.5), flat, atol=1e-6)


def test_ground_truth_ignores_style_words() -> None:
    camera = _camera(45, 15)
    assert torch.equal(
        render_prompt("a red cube", camera), render_prompt("a red cube, back view, dull", camera)
    )
    scene = replace(parse("a red cube").scene, look=Look(gloss=0.9))
    assert not torch.equal(render_prompt("a red cube", camera), render([scene], camera, torch.ones(1, 3)))
