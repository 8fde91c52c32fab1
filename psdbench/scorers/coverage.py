"""`coverage`: whether there is a solid object inside the frame: not nothing, not fog, not cut off."""

from __future__ import annotations

import torch
from torch import Tensor

from psdbench.scorers.asset import AssetScorer, AssetViews

ENOUGH = 0.05
"""share of the frame from which an object is large enough to be judged; less counts in proportion"""


class Coverage(AssetScorer):
    """size · solidity · inside, each in [0, 1], with opacity o of a view's pixels (our own formula).

    size = min(1, mean(o) / 0.05): nothing there gives 0. solidity = Σ o² / Σ o, the opacity that the light met:
    1 for a solid object, o for a fog of even opacity o. inside = 1 - mean of o along the border of the picture:
    an object that fills the frame gives 0. Without a stored opacity it is a mask of what differs from the
    backdrop, which shows neither fog nor a filled frame.
    """

    modules = (__name__,)

    def score_asset(self, views: AssetViews) -> Tensor:
        """Scores [V] in [0, 1]; none is missing."""
        opacity = views.coverage[:, 0]
        border = torch.cat([opacity[:, (0, -1), :].flatten(1), opacity[:, 1:-1, (0, -1)].flatten(1)], 1)
        light = opacity.sum((1, 2))
        size = (opacity.mean((1, 2)) / ENOUGH).clamp(max=1)
        solidity = opacity.square().sum((1, 2)) / light.clamp(min=1e-6)
        return size * solidity * (1 - border.mean(1))
