"""`consistency`: whether neighbouring views tell of one and the same surface, by the asset's own depth.

The idea is that of Eval3D's geometric and semantic consistency (arXiv 2504.18509), re-derived without its
networks: a pixel is carried along the depth of its view into a neighbouring one, and must find its colour there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.cameras import Cameras
from psdbench.scorers.asset import VISIBLE, AssetScorer, AssetViews

NEIGHBOURS = 2
"""views that each view is compared with: the nearest by angle"""
TOLERANCE = 0.1
"""how far the surface that a neighbour sees may lie from the point, world units: a twentieth of the cube"""

NOWHERE = 1e6
"""stands for the distance of no surface"""


class Consistency(AssetScorer):
    """Mean over a view's surface of how well neighbouring views confirm it, in [0, 1].

    Each pixel of opacity over 0.5 is a point X in space, by its depth. In a neighbour's picture X falls on a
    place whose 3 x 3 pixels have depths from d to D, and lies at distance |X - camera|. Beyond D + 0.1 it is
    hidden there and not judged. Between d - 0.1 and D + 0.1 it is met, and scores 1 - mean |colour difference|.
    Before d - 0.1, or before nothing at all, the neighbour looks through it: the surface is there for one view
    only, and the pixel scores 0. Fog and shells do that.
    """

    modules = (__name__, "psdbench.cameras")

    def score_asset(self, views: AssetViews) -> Tensor:
        """Scores [V]; NaN for a view without a judged pixel, and everywhere without depth and cameras."""
        if views.cameras is None or views.depth is None or len(views) < 2:
            return torch.full((len(views),), torch.nan)
        scores = []
        for index in range(len(views)):
            totals = [_agreement(views, index, other) for other in nearest(views.cameras, index)]
            agreed, judged = (torch.stack(parts).sum() for parts in zip(*totals, strict=True))
            scores.append(agreed / judged)  # 0 / 0 is NaN: nothing could be judged
        return torch.stack(scores)


def nearest(cameras: Cameras, index: int) -> list[int]:
    """The views whose directions are closest to that of view `index`, nearest first, not itself."""
    directions = functional.normalize(cameras.positions, dim=-1)
    closeness = directions @ directions[index]
    closeness[index] = -torch.inf
    return closeness.topk(min(NEIGHBOURS, len(cameras) - 1)).indices.tolist()


def _agreement(views: AssetViews, index: int, other: int) -> tuple[Tensor, Tensor]:
    """Sum of the scores of a view's pixels in one other view, and the number of pixels judged."""
    assert views.cameras is not None  # score_asset has seen to it
    assert views.depth is not None
    own, there = views.cameras[index : index + 1], views.cameras[other : other + 1]
    origins, rays = own.rays(views.images.shape[-1])
    solid = (views.coverage[index, 0] > VISIBLE) & (views.depth[index, 0] > 0)
    points = (origins[0] + views.depth[index, 0][..., None] * rays[0])[solid]
    grid, before = project(there, points)
    colour = _at(views.images[other], grid, "bilinear")
    least, most = (_at(x, grid, "nearest")[0] for x in _range(views.depth[other], views.coverage[other]))
    distance = (points - there.positions).norm(dim=-1)
    hidden = distance > most + TOLERANCE
    met = (distance >= least - TOLERANCE) & ~hidden
    judged = before & (grid.abs() <= 1).all(-1) & ~hidden
    alike = 1 - (colour - views.images[index][:, solid]).abs().mean(0)
    return (alike * (judged & met)).sum(), judged.sum()


def _range(depth: Tensor, opacity: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest depth [1, H, W] of the surface within a pixel's 3 x 3; without one, infinite both.

    On a slanted surface and along outlines, the depth of a single pixel says little of that beside it.
    """
    there = opacity > VISIBLE
    near, far = (torch.where(there, sign * depth, -NOWHERE) for sign in (-1, 1))
    near, far = (functional.max_pool2d(each, 3, stride=1, padding=1) for each in (near, far))
    return -near, torch.where(far > -NOWHERE, far, NOWHERE)


def project(camera: Cameras, points: Tensor) -> tuple[Tensor, Tensor]:
    """Places of points [N, 3] in one camera's picture, [N, 2] in [-1, 1] right and down, and which lie before it."""
    right, up, backward = (axis[0] for axis in camera.axes())
    offset = points - camera.positions
    ahead = -(offset @ backward)
    half = torch.tan(torch.deg2rad(camera.fov[0]) / 2) * ahead.clamp(min=1e-6)
    return torch.stack([offset @ right / half, -(offset @ up) / half], -1), ahead > 0


def _at(image: Tensor, grid: Tensor, mode: str) -> Tensor:
    """The values [C, N] of an image [C, H, W] at places [N, 2]."""
    return functional.grid_sample(
        image[None], grid[None, None], mode=mode, padding_mode="border", align_corners=False
    )[0, :, 0]
