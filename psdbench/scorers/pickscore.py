"""PickScore (arXiv 2305.01569): a CLIP ViT-H/14 fine-tuned on users' choices between two pictures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from psdbench.scorers.clip import TowerScorer


class PickScorer(TowerScorer):
    """The cosine of image and prompt times CLIP's own scale, exp(logit_scale), as its authors report it.

    The difference of two scores is the log odds that the first picture is chosen.
    """

    def rate(self, seen: Tensor, prompts: Sequence[str]) -> Tensor:
        """Image embeddings [N, D] with their prompts to scores [N], mostly between 15 and 25."""
        return self.tower.model.logit_scale.exp() * self.tower.cosine(seen, prompts)
