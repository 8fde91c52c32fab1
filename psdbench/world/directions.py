"""From which direction a cube is drawn. Its sides are all alike, so its outline alone can tell.

A corner in the middle of the picture makes the outline wide, a side in the middle makes it narrow. A prior that
does not follow the named direction here puts the corner anywhere, and what is distilled from it has round edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from psdbench.camera_config import VIEW_NAMES
from psdbench.cameras import Cameras
from psdbench.world.scenes import render_prompt

TURNS = torch.arange(0, 90, 5.0)
"""degrees; after 90 a cube looks the same"""
ELEVATIONS = (3.0, 10.0, 17.0, 24.0, 30.0)
BACKDROP_STEP = 0.15
"""how far a pixel's colour lies from that of the backdrop, at least, to be part of the object"""


def turned_as(images: Tensor, azimuths: Tensor) -> Tensor:
    """Whether cubes [N, 3, H, W] in [0, 1] show a side or a corner in front as seen from [N] azimuths, [N] bool.

    The azimuths are multiples of 45°; right is within 22.5°. A cube turned at random is right in half of the cases.
    """
    off = (turns(images) - azimuths.to(images) + 45) % 90 - 45
    return off.abs() < 22.5


def named_azimuths(words: Sequence[str]) -> Tensor:
    """The azimuths that eight view words name, [N] degrees."""
    return torch.tensor([45.0 * VIEW_NAMES[8].index(word) for word in words])


def turns(images: Tensor) -> Tensor:
    """By how much each cube is turned, [N] degrees in [0, 90): as the clean cube whose outline is most similar."""
    turned, raised = torch.meshgrid(TURNS, torch.tensor(ELEVATIONS), indexing="ij")
    turned, raised = turned.flatten(), raised.flatten()
    cameras = Cameras(turned, raised, torch.full_like(turned, 2.6), torch.full_like(turned, 45.0))
    known, drawn = outlines(render_prompt("a blue cube", cameras)), outlines(images)
    return turned[overlap(drawn[:, None], known).argmax(1)]


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of outlines [..., S, S], [...] in [0, 1]."""
    return torch.minimum(one, other).sum((-2, -1)) / torch.maximum(one, other).sum((-2, -1)).clamp(min=1e-6)


def outlines(images: Tensor, size: int = 48) -> Tensor:
    """What differs from the backdrop, scaled to one width and height, [N, size, size] in [0, 1].

    The backdrop's colour is the median of the border. A picture without an object has an outline of zeros.
    """
    edge = torch.cat([images[..., (0, -1), :].flatten(2), images[..., (0, -1)].flatten(2)], -1)
    backdrop = edge.median(-1).values[..., None, None]
    masks = ((images - backdrop).abs().amax(1) > BACKDROP_STEP).float()
    return torch.stack([_fitted(mask, size) for mask in masks])


def _fitted(mask: Tensor, size: int) -> Tensor:
    """A mask's bounding box, centred in a square of its longer side and resized."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    if not len(rows):
        return mask.new_zeros(size, size)
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    tall, wide = max(box.shape) - box.shape[0], max(box.shape) - box.shape[1]
    square = F.pad(box, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))
    return F.interpolate(square[None, None], (size, size), mode="bilinear", antialias=True)[0, 0]
