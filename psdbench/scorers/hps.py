"""HPS v2 (arXiv 2306.09341): a CLIP fine-tuned on human choices, read as a cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from psdbench.scorers.clip import TowerScorer

if TYPE_CHECKING:
    from psdbench.cameras import Cameras


class HpsScorer(TowerScorer):
    """Cosine of image and prompt under the fine-tuned CLIP, without logit scale, as `score` of hpsv2."""

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] with their prompts to scores [N] in [-1, 1]."""
        return self.tower.cosine(images, prompts)
