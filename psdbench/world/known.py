"""Renders of named scenes with depth, and of objects that wear their face on both sides: what metrics are tried on.

It stands beside the renderer, not in it: stored scores carry the hash of the renderer's source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.cameras import Cameras
from psdbench.world.grammar import parse
from psdbench.world.renderer import _FAR, _nearest_hit, _shade
from psdbench.world.scenes import Look

_BEHIND = torch.tensor([-1.0, 1.0, 1.0])
"""mirrors the world front to back"""


@dataclass(frozen=True)
class KnownViews:
    """What the cameras see of a named scene over white."""

    rgb: Tensor
    """[V, 3, size, size] in [0, 1]"""
    opacity: Tensor
    """share of the pixel that is covered, [V, 1, size, size] in [0, 1]"""
    depth: Tensor
    """mean distance of what covers it, [V, 1, size, size], world units; 0 where nothing does"""


def known_views(
    prompt: str, cameras: Cameras, size: int = 64, two_faced: bool = False, supersample: int = 2
) -> KnownViews:
    """The clean scene that a prompt names, as `render_prompt` draws it, with its geometry.

    `two_faced` paints the face of an object on its back as well: the fault called Janus, on the right shape
    under the right light. Raises UsageError when the prompt lies outside the vocabulary.
    """
    scenes = [replace(parse(prompt).scene, look=Look())] * len(cameras)
    fine = size * supersample
    origins, rays = (each.flatten(1, 2) for each in cameras.rays(fine))
    depth, normal, albedo = _nearest_hit(scenes, origins, rays)
    if two_faced:
        _, _, mirrored = _nearest_hit(scenes, origins * _BEHIND, rays * _BEHIND)
        behind = (origins + depth[..., None] * rays)[..., :1] < 0
        albedo = torch.where(behind, mirrored, albedo)
    hit = (depth < _FAR / 2)[..., None].float()
    colour = _shade(normal, albedo, rays, torch.zeros(len(cameras), 1)) * hit
    image = torch.cat([colour, hit, depth[..., None] * hit], -1).transpose(1, 2).unflatten(2, (fine, fine))
    image = functional.avg_pool2d(image, supersample)
    rgb, opacity, far = image[:, :3], image[:, 3:4], image[:, 4:]
    return KnownViews(rgb + 1 - opacity, opacity, far / opacity.clamp(min=1e-6))
