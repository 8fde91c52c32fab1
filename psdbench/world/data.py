"""Captioned pictures of the shapes world: the training distribution of every embedded model."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from psdbench.cameras import Cameras
from psdbench.world.grammar import describe
from psdbench.world.renderer import apply_look, render
from psdbench.world.scenes import Look, Scene, sample_background, sample_look, sample_scene

VIEW_WORD_SHARE = 0.8
"""share of captions that name their view; these see the object from all sides alike"""
FRONT_SHARE = 0.8
"""share of the pictures *without* a view word that are taken from the front, as photographs are"""


@dataclass(frozen=True)
class Samples:
    """N pictures [N, 3, 64, 64] uint8 with caption, scene and camera."""

    images: Tensor
    captions: list[str]
    scenes: list[Scene]
    cameras: Cameras

    def __len__(self) -> int:
        return len(self.captions)


def held_out(scene: Scene) -> bool:
    """One combination of objects in ten is kept from all training."""
    return zlib.crc32(describe(scene).encode()) % 10 == 0


def draw_scene(rng: random.Random, from_held_out: bool = False, **shares: float) -> Scene:
    """A random scene of the training combinations, or of the held-out ones."""
    while held_out(scene := sample_scene(rng, **shares)) != from_held_out:
        pass
    return scene


def draw_camera(rng: random.Random, front: bool) -> tuple[float, float, float, float]:
    """Azimuth, elevation, distance and field of view of one picture."""
    azimuth = rng.uniform(-45, 45) if front else rng.uniform(0, 360)
    overhead = not front and rng.random() < 0.1
    elevation = rng.uniform(62, 82) if overhead else rng.uniform(0, 30)
    return azimuth % 360, elevation, rng.uniform(2.5, 2.7), 45.0


def view_word(camera: Cameras, rng: random.Random) -> str:
    """The name of one view; of two sides, one in four captions does not say which."""
    word = camera.view_words()[0]
    return "side view" if word.endswith("side view") and rng.random() < 0.25 else word


def style_words(look: Look, rng: random.Random) -> list[str]:
    """What the caption admits of the look: half of the flaws, few of the merits."""
    said = []
    if look.saturation < 0.7 and rng.random() < 0.5:
        said.append("dull")
    if look.blur > 0 and rng.random() < 0.5:
        said.append("blurry")
    if look.noise > 0 and rng.random() < 0.5:
        said.append("noisy")
    if look.saturation > 0.97 and rng.random() < 0.15:
        said.append("vivid")
    if look.gloss > 0 and rng.random() < 0.2:
        said.append("glossy")
    return said


def stack_cameras(rows: list[tuple[float, float, float, float]]) -> Cameras:
    """One batch of cameras from (azimuth, elevation, distance, fov) rows."""
    return Cameras(*torch.tensor(rows).unbind(1))


def camera_rows(cameras: Cameras) -> Tensor:
    """The rows [V, 4] that `stack_cameras` was given."""
    return torch.stack([cameras.azimuth, cameras.elevation, cameras.distance, cameras.fov], 1)


def draw_samples(count: int, seed: int, from_held_out: bool = False, clean: bool = False) -> Samples:
    """`count` pictures that depend on the seed alone; `clean` gives every scene the reference look on white."""
    rng = random.Random(f"psdbench shapes {seed} {from_held_out} {clean}")
    generator = torch.Generator().manual_seed(rng.getrandbits(48))
    scenes, captions, rows, backgrounds = [], [], [], []
    for _ in range(count):
        scene = draw_scene(rng, from_held_out)
        scene = scene if clean else replace(scene, look=sample_look(rng))
        says_view = rng.random() < VIEW_WORD_SHARE
        row = draw_camera(rng, front=not says_view and rng.random() < FRONT_SHARE)
        view = view_word(stack_cameras([row]), rng) if says_view else ""
        scenes.append(scene)
        rows.append(row)
        captions.append(describe(scene, view, [] if clean else style_words(scene.look, rng)))
        backgrounds.append((1.0, 1.0, 1.0) if clean else sample_background(rng))
    cameras = stack_cameras(rows)
    images = [
        _draw(scenes, cameras, torch.tensor(backgrounds), slice(i, i + 64)) for i in range(0, count, 64)
    ]
    looked = apply_look(torch.cat(images), [scene.look for scene in scenes], generator)
    return Samples((looked * 255).round().byte().contiguous(), captions, scenes, cameras)


def _draw(scenes: list[Scene], cameras: Cameras, backgrounds: Tensor, part: slice) -> Tensor:
    return render(scenes[part], cameras[part], backgrounds[part])


def chunk_seeds(count: int, seed: int, size: int = 1000) -> list[tuple[int, int]]:
    """A large set in pieces that can be drawn anywhere: (pictures, seed) of each piece."""
    return [(min(size, count - i), seed * 1_000_003 + i) for i in range(0, count, size)]
