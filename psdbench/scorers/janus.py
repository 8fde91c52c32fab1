"""`janus`: how much opposite views both claim to be the front, by CLIP asked which view it sees.

The fault is named in DreamFusion (arXiv 2209.14988, section 5) and blurred by any mean over views; the words are
those of its view-dependent prompts. The formula is our own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from psdbench.scorers.asset import AssetScorer, AssetViews
from psdbench.scorers.clip import ClipScorer
from psdbench.scorers.eye import Eye

FRONT = "front view"
WORDS = (FRONT, "side view", "back view", "overhead view")


class Janus(AssetScorer):
    """J_v = f_v · max f_u over the views u that look from more than 90° away, in [0, 1]; lower is better.

    f_v is CLIP's probability of "PROMPT, front view" among front, side, back and overhead, by the model's own
    temperature. It does not ask where the front is, so an asset that is merely turned has no fault. An object
    without a front (a ball) scores what CLIP makes of it: compare methods, not prompts.
    """

    higher_is_better = False
    modules = (__name__,)

    def __init__(
        self,
        id: str,
        folder: Path,
        device: torch.device | str = "cpu",
        given: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(id)
        self.clip = ClipScorer(id, folder, device, given)

    @property
    def eye(self) -> Eye:
        """The image half of CLIP."""
        return self.clip.eye

    @cached_property
    def sha256(self) -> str:
        """Hash of the source of the score and of all that decides what CLIP says."""
        return hashlib.sha256(f"{self.source_sha256()}\n{self.clip.sha256}".encode()).hexdigest()

    def score_asset(self, views: AssetViews) -> Tensor:
        """Scores [V]; NaN without cameras, and for a prompt so long that CLIP does not read the view behind it."""
        captions = [f"{views.prompt}, {word}" for word in WORDS]
        if views.cameras is None or not all(map(self.clip.tower.reads, captions)):
            return torch.full((len(views),), torch.nan)
        front = self._claims(views, captions)
        directions = functional.normalize(views.cameras.positions, dim=-1)
        opposite = directions @ directions.T < -1e-4  # 90° itself is a side view
        return front * torch.where(opposite, front[None], 0.0).amax(1)

    @torch.no_grad()
    def _claims(self, views: AssetViews, captions: list[str]) -> Tensor:
        """f_v: how surely CLIP takes each view for the front, [V] in [0, 1]."""
        tower = self.clip.tower
        texts = tower.texts(captions)
        scale = tower.model.logit_scale.exp()
        return (scale * views.features(tower) @ texts.T).softmax(-1)[:, 0].cpu()
