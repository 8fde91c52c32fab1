"""What a caption and a camera say about a picture, as class indices; and captions that are wrong by one word."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from psdbench.camera_config import VIEW_NAMES
from psdbench.cameras import OVERHEAD, VIEW_WORDS
from psdbench.world.data import stack_cameras
from psdbench.world.grammar import Caption, describe, parse
from psdbench.world.scenes import COLOURS, RELATIONS, SHAPES, Object, Scene

ATTRIBUTES = {"shape_1": 5, "colour_1": 9, "shape_2": 5, "colour_2": 9, "relation": 3, "view": 4, "face": 2}
"""attribute → number of classes. Class 4 of a shape and 8 of a colour mean "no such object"."""
COARSE_VIEWS = (*dict.fromkeys(VIEW_NAMES[4]), OVERHEAD)
NEGATIVE_KINDS = ("shape", "colour", "order", "view", "face")


def attributes(caption: str, camera: Tensor) -> list[int]:
    """The classes of one picture, in the order of ATTRIBUTES.

    camera: [4] azimuth, elevation, distance, fov. Of two objects side by side the first is the left one *in the
    picture*; a face counts where it can be seen.
    """
    scene = parse(caption).scene
    azimuth, elevation = math.radians(float(camera[0])), math.radians(float(camera[1]))
    objects = list(scene.objects)
    if scene.relation == "next to" and math.cos(azimuth) < 0:
        objects.reverse()
    row = []
    for slot in (0, 1):
        item = objects[slot] if slot < len(objects) else None
        row += [SHAPES.index(item.shape), list(COLOURS).index(item.colour)] if item else [4, 8]
    view = stack_cameras([tuple(camera.tolist())]).view_words(4)[0]
    facing = math.cos(azimuth) * math.cos(elevation) > 0.42
    row += [1 + RELATIONS.index(scene.relation) if scene.relation else 0, COARSE_VIEWS.index(view)]
    return [*row, int(objects[0].face and facing)]


def hard_negatives(text: str, rng: random.Random) -> dict[str, str]:
    """Captions that differ from `text` in one thing: kind → caption; only kinds that apply.

    A wrong view is one that turns the front to us, or away: neighbouring views are hard to tell apart.
    """
    caption = parse(text)
    scene, out = caption.scene, {}
    slot = rng.randrange(len(scene.objects))
    item = scene.objects[slot]
    shapes = [
        s
        for s in SHAPES
        if s != item.shape and not (slot == 1 and scene.relation == RELATIONS[0] and s == "cone")
    ]
    colours = [c for c in COLOURS if c != item.colour]
    out["shape"] = _say(caption, _swap(scene, slot, replace(item, shape=rng.choice(shapes))))
    out["colour"] = _say(caption, _swap(scene, slot, replace(item, colour=rng.choice(colours))))
    first, second = scene.objects[0], scene.objects[-1]
    if scene.relation == "on top of" and first != second and first.shape != "cone":
        out["order"] = _say(caption, replace(scene, objects=(second, first)))
    if caption.view:
        other = rng.choice(
            [v for v in VIEW_WORDS if v.startswith("front") != caption.view.startswith("front")]
        )
        out["view"] = describe(scene, other, caption.styles)
    if not scene.relation and not item.size and caption.view in ("front view", ""):
        out["face"] = _say(caption, Scene((replace(item, face=not item.face),)))
    return out


def _swap(scene: Scene, slot: int, item: Object) -> Scene:
    objects = list(scene.objects)
    objects[slot] = item
    return replace(scene, objects=tuple(objects))


def _say(caption: Caption, scene: Scene) -> str:
    return describe(scene, caption.view, caption.styles)


def attribute_table(captions: list[str], cameras: Tensor) -> Tensor:
    """Classes of many pictures, [N, 7] long."""
    return torch.tensor([attributes(c, cameras[i]) for i, c in enumerate(captions)])


def attribute_errors(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of each attribute, [7]; logits [N, 37] side by side, classes [N, 7] long."""
    parts = logits.float().split(list(ATTRIBUTES.values()), 1)
    return torch.stack([cross_entropy(part, classes[:, i]) for i, part in enumerate(parts)])
