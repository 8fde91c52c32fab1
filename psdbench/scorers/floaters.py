"""`floaters`: how much of what is seen hangs in the air beside the object, by connected components."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psdbench.scorers.asset import VISIBLE, AssetScorer, AssetViews

SMALL = 0.1
"""area of a component, as a share of the largest one's, below which it is a floater: two objects beside each
other are both larger"""


class Floaters(AssetScorer):
    """Share of a view's visible pixels that lie in floaters, in [0, 1]; lower is better (our own formula).

    A floater is an 8-connected component of the pixels of opacity over 0.5 with less than a tenth of the area of
    the largest. What hangs before the object from one side is seen beside it from another.
    """

    higher_is_better = False
    modules = (__name__,)

    def score_asset(self, views: AssetViews) -> Tensor:
        """Scores [V]; NaN for a view with nothing in it."""
        return torch.tensor([_share(mask.numpy()) for mask in views.coverage[:, 0] > VISIBLE])


def _share(mask: NDArray[np.bool_]) -> float:
    areas = component_areas(mask)
    if not len(areas):
        return float("nan")
    return float(areas[areas < SMALL * areas.max()].sum() / areas.sum())


def component_areas(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels in each 8-connected component of a mask [H, W], in no particular order.

    Union by least index with pointer jumping, whole arrays at a time: some ten rounds for any shape, where
    label propagation takes as many as the longest path has pixels.
    """
    number = np.arange(mask.size).reshape(mask.shape)
    pairs = [
        (number[rows_a, columns_a][both], number[rows_b, columns_b][both])
        for rows_a, columns_a, rows_b, columns_b in _NEIGHBOURS
        if (both := mask[rows_a, columns_a] & mask[rows_b, columns_b]).any()
    ]
    root = number.ravel()
    if pairs:
        first, second = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
        while (differ := root[first] != root[second]).any():
            ends = root[first[differ]], root[second[differ]]
            np.minimum.at(root, np.maximum(*ends), np.minimum(*ends))
            while (further := root[root]).tobytes() != root.tobytes():
                root = further
    return np.unique(root[mask.ravel()], return_counts=True)[1]


_ALL, _LESS, _MORE = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS = (
    (_ALL, _LESS, _ALL, _MORE),
    (_LESS, _ALL, _MORE, _ALL),
    (_LESS, _LESS, _MORE, _MORE),
    (_LESS, _MORE, _MORE, _LESS),
)
"""rows and columns of a pixel and of its neighbour: right, below, and below to both sides"""
