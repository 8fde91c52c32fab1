"""Changes in the number of Gaussians: splitting, doubling and pruning as in 3DGS (arXiv 2308.04079, section 5.2).

Each Parameter is exchanged for one of the new length, in Adam's groups too, and its moments go along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from psdbench.representations.splatting import rotation_matrices

if TYPE_CHECKING:
    from psdbench.representations.gaussians import Gaussians

SHRINK = 1.6
"""by which the two halves of a split Gaussian are smaller; 3DGS"""


@torch.no_grad()
def change_structure(asset: Gaussians, adam: torch.optim.Adam, generator: torch.Generator) -> None:
    """Remove faint and huge Gaussians, split or double those that were pulled at hardest, and forget the pulls.

    Of a split one both halves are drawn from it, of a doubled one the copy lies on it; new ones begin without moments.
    """
    kept = survivors(asset)
    chosen = hardest_pulled(asset, kept)
    large = asset.log_scales.exp().amax(-1) > asset.config.split_scale
    halved = chosen[large[chosen]]
    stay = kept[~torch.isin(kept, halved)]
    source = torch.cat([stay, chosen[~large[chosen]], halved, halved])
    fresh = torch.arange(len(source), device=source.device) >= len(stay)
    _take(asset, adam, source, fresh)
    if len(halved):
        _scatter(asset, 2 * len(halved), generator)
    asset.pull, asset.seen = (torch.zeros(len(source), device=source.device) for _ in range(2))


def survivors(asset: Gaussians) -> Tensor:
    """Indices of those that are neither faint nor huge; the most opaque one if there are none."""
    opacity, scale = asset.opacities.sigmoid(), asset.log_scales.exp().amax(-1)
    kept = (opacity >= asset.config.prune_opacity) & (scale <= asset.config.prune_scale)
    if not kept.any():
        kept[opacity.argmax()] = True
    return kept.nonzero().view(-1)


def hardest_pulled(asset: Gaussians, kept: Tensor) -> Tensor:
    """Those of `kept` whose centres had the largest mean gradient on the image, as many as may be added."""
    room = min(int(asset.config.densify_share * len(kept)), asset.config.max_count - len(kept))
    mean = (asset.pull / asset.seen.clamp(min=1))[kept]
    best = mean.argsort(descending=True, stable=True)[: max(0, room)]
    return kept[best[mean[best] > 0]]


def _take(asset: Gaussians, adam: torch.optim.Adam, source: Tensor, fresh: Tensor) -> None:
    """Make the parameters, and Adam's moments, those of the Gaussians `source`; zero moments where `fresh`."""
    for name, old in list(asset.named_parameters()):
        new = nn.Parameter(old.detach()[source])
        setattr(asset, name, new)
        for group in adam.param_groups:
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
        moments = adam.state.pop(old, None)
        if moments:
            for key in ("exp_avg", "exp_avg_sq"):
                moments[key] = moments[key][source]
                moments[key][fresh] = 0
            adam.state[new] = moments


def _scatter(asset: Gaussians, count: int, generator: torch.Generator) -> None:
    """Draw the last `count` centres anew, each from its own Gaussian, and make these smaller."""
    last = slice(len(asset.means) - count, None)
    steps = torch.randn(count, 3, generator=generator).to(asset.means)
    axes = rotation_matrices(functional.normalize(asset.rotations[last], dim=-1))
    asset.means[last] += (axes @ (steps * asset.log_scales[last].exp())[..., None])[..., 0]
    asset.log_scales[last] -= torch.log(torch.tensor(SHRINK))
