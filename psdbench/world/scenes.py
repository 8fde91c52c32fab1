"""Scenes of the shapes world: what can be drawn, how it is sampled, and the scene that a caption names.

A scene is one object or two in a relation. World units: the camera sees about [-1.07, 1.07] at the origin.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from psdbench.cameras import Cameras

SHAPES = ("cube", "sphere", "cone", "cylinder")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.87, 0.11, 0.11),
    "orange": (0.97, 0.52, 0.08),
    "yellow": (0.97, 0.88, 0.12),
    "green": (0.14, 0.66, 0.22),
    "cyan": (0.14, 0.82, 0.88),
    "blue": (0.14, 0.24, 0.90),
    "purple": (0.52, 0.15, 0.76),
    "pink": (0.98, 0.52, 0.72),
}
SIZES = {"small": 0.66, "": 0.95, "large": 1.10}
"""size word → factor on the half-size of a single object"""
RELATIONS = ("on top of", "next to")
STYLES = ("dull", "blurry", "noisy", "vivid", "glossy")
"""words that a caption may say about the look; most captions say nothing of it"""

_HALF_SIZE = {"cube": 0.60, "sphere": 0.76, "cone": 0.76, "cylinder": 0.72}
_PAIR_FACTOR = {"on top of": 0.61, "next to": 0.60}


@dataclass(frozen=True)
class Object:
    """One captioned primitive: shape, colour, size word and whether it wears a face on its front."""

    shape: str
    colour: str
    size: str = ""
    face: bool = False


@dataclass(frozen=True)
class Look:
    """What a caption mostly leaves unsaid; the defaults are the look of a clean reference render."""

    saturation: float = 1.0
    """factor on the chroma, 0 grey … 1 full colour"""
    blur: float = 0.0
    """standard deviation of the blur, pixels at 64 px"""
    noise: float = 0.0
    """standard deviation of additive noise, image range 0 … 1"""
    shift: tuple[float, float] = (0.0, 0.0)
    """offset of the picture, fractions of the image side (right, down)"""
    gloss: float = 0.0
    """strength of the specular highlight"""


@dataclass(frozen=True)
class Scene:
    """One or two objects with a relation; `jitter` scales the whole scene a little."""

    objects: tuple[Object, ...]
    relation: str = ""
    look: Look = field(default_factory=Look)
    jitter: float = 1.0


@dataclass(frozen=True)
class Placed:
    """An object at its place: centre and half-size in world units."""

    shape: int
    colour: tuple[float, float, float]
    centre: tuple[float, float, float]
    half: float
    face: bool


def place(scene: Scene) -> list[Placed]:
    """The objects of a scene in world coordinates. The first stands on top of, or left (−y) of, the second."""
    placed = []
    for index, item in enumerate(scene.objects):
        half = _HALF_SIZE[item.shape] * scene.jitter
        if not scene.relation:
            half *= SIZES[item.size]
            centre = (0.0, 0.0, 0.0)
        else:
            half *= _PAIR_FACTOR[scene.relation]
            centre = _pair_centre(scene, index, half)
        placed.append(Placed(SHAPES.index(item.shape), COLOURS[item.colour], centre, half, item.face))
    return placed


def _pair_centre(scene: Scene, index: int, half: float) -> tuple[float, float, float]:
    if scene.relation == "next to":
        return (0.0, -0.5 if index == 0 else 0.5, 0.0)
    halves = [_HALF_SIZE[o.shape] * scene.jitter * _PAIR_FACTOR["on top of"] for o in scene.objects]
    bottom = -(halves[0] + halves[1])
    return (0.0, 0.0, bottom + half if index == 1 else bottom + 2 * halves[1] + half)


def sample_scene(rng: random.Random, pair_share: float = 0.5, face_share: float = 0.35) -> Scene:
    """A random scene with the clean look."""
    names = list(COLOURS)
    if rng.random() < pair_share:
        relation = "on top of" if rng.random() < 0.72 else "next to"
        first, second = rng.sample(names, 2) if rng.random() < 0.9 else [rng.choice(names)] * 2
        # a cone cannot carry anything: it may stand on top only
        carriers = SHAPES if relation == "next to" else tuple(s for s in SHAPES if s != "cone")
        objects = (Object(rng.choice(SHAPES), first), Object(rng.choice(carriers), second))
        return Scene(objects, relation, jitter=rng.uniform(0.94, 1.05))
    face = rng.random() < face_share
    size = "" if face else rng.choices(tuple(SIZES), (0.15, 0.7, 0.15))[0]
    thing = Object(rng.choice(SHAPES), rng.choice(names), size, face)
    return Scene((thing,), jitter=rng.uniform(0.95, 1.05))


def sample_look(rng: random.Random) -> Look:
    """A random look: three in four samples are sharp and clean, two in five are glossy."""
    return Look(
        saturation=rng.uniform(0.35, 0.65) if rng.random() < 0.15 else rng.uniform(0.88, 1.0),
        blur=rng.uniform(0.8, 2.2) if rng.random() < 0.10 else 0.0,
        noise=rng.uniform(0.03, 0.10) if rng.random() < 0.08 else 0.0,
        shift=(rng.uniform(-0.14, 0.14), rng.uniform(-0.14, 0.14)) if rng.random() < 0.10 else (0.0, 0.0),
        gloss=rng.uniform(0.35, 0.7) if rng.random() < 0.4 else 0.0,
    )


def sample_background(rng: random.Random) -> tuple[float, float, float]:
    """White for three in four, a light pastel for most others, now and then any colour."""
    pick = rng.random()
    if pick < 0.75:
        return (1.0, 1.0, 1.0)
    low = 0.78 if pick < 0.97 else 0.15
    return (rng.uniform(low, 1.0), rng.uniform(low, 1.0), rng.uniform(low, 1.0))


def render_prompt(prompt: str, cameras: Cameras, size: int = 64) -> Tensor:
    """The ground truth: the clean scene that a prompt names, on white, [V, 3, size, size] in [0, 1].

    Raises UsageError when the prompt lies outside the vocabulary.
    """
    from psdbench.world.grammar import parse
    from psdbench.world.renderer import render

    scene = replace(parse(prompt).scene, look=Look())
    white = torch.ones(len(cameras), 3)
    return render([scene] * len(cameras), cameras, white, size)
