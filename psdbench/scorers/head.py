"""The score head that LAION's aesthetic predictor and ImageReward share: five linear layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

LAION_WIDTHS = (1024, 128, 64, 16, 1)


class ScoreHead(nn.Module):
    """Features [N, dims[0]] to one score each [N].

    The layout, the dropout rates and the absence of activations are those of LAION's aesthetic predictor
    (improved-aesthetic-predictor) and of ImageReward (arXiv 2304.05977): weights at ``layers.{0,2,4,6,7}``.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        if len(dims) != 6 or dims[-1] != 1:
            raise ValueError(f"a score head has five layers and ends in one number: got widths {list(dims)}")
        first, second, third, fourth, fifth = (nn.Linear(a, b) for a, b in pairwise(dims))
        self.layers = nn.Sequential(
            first, nn.Dropout(0.2), second, nn.Dropout(0.2), third, nn.Dropout(0.1), fourth, fifth
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, D] to scores [N]."""
        return self.layers(features).squeeze(-1)


def widths(state: Mapping[str, Tensor]) -> list[int]:
    """The widths of the head that a state dict holds; KeyError if a layer is missing."""
    weights = [state[f"layers.{index}.weight"] for index in (0, 2, 4, 6, 7)]
    return [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
