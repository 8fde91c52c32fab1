"""HPS v2 (arXiv 2306.09341): a CLIP fine-tuned on human choices, read as a cosine."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from psdbench.scorers.clip import TowerScorer


class HpsScorer(TowerScorer):
    """Cosine of image and prompt under the fine-tuned CLIP, without logit scale, as `score` of hpsv2."""

    def rate(self, seen: Tensor, prompts: Sequence[str]) -> Tensor:
        """Image embeddings [N, D] with their prompts to scores [N] in [-1, 1]."""
        return self.tower.cosine(seen, prompts)
