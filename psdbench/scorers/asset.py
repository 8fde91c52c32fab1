"""What a scorer of a whole asset is given: all its stored views at once, with depth and opacity where known.

A scorer of pictures judges one view at a time. Whether views agree, whether two of them claim to be the front,
whether something floats beside the object: that takes the views together. Such scorers still give one score per
view, so that nothing is averaged before the report.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.cameras import with_view_words
from psdbench.scorers import json_values
from psdbench.scorers.eye import Eye, EyeScorer, look
from psdbench.store.digest import sha256_file

if TYPE_CHECKING:
    from psdbench.cameras import Cameras
    from psdbench.scorers import Scorer

VISIBLE = 0.5
"""opacity from which a pixel belongs to the object"""
BACKDROP_STEP = 0.12
"""largest difference of a colour channel to the backdrop at which a pixel of a bare picture is backdrop"""


@dataclass(frozen=True)
class AssetViews:
    """An asset as its V stored views show it; all tensors on the CPU.

    Renders made elsewhere have no depth, often no opacity, and no cameras where nobody says where they stood.
    """

    prompt: str
    images: Tensor
    """over one flat backdrop, [V, 3, H, W] in [0, 1]"""
    cameras: Cameras | None = None
    opacity: Tensor | None = None
    """share of light that the asset stops, [V, 1, H, W] in [0, 1]"""
    depth: Tensor | None = None
    """distance from the camera along the ray, [V, 1, H, W], world units; 0 where there is nothing"""
    seen: dict[Eye, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    """what eyes have seen in the images, [V, …] each, kept as long as these views are"""

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def coverage(self) -> Tensor:
        """The opacity, or where it is not known the pixels that differ from the backdrop, [V, 1, H, W].

        The backdrop's colour is the median of the border; an object that fills the frame is taken for one.
        """
        if self.opacity is not None:
            return self.opacity
        edge = torch.cat([self.images[..., (0, -1), :].flatten(2), self.images[..., (0, -1)].flatten(2)], -1)
        backdrop = edge.median(-1).values[..., None, None]
        return ((self.images - backdrop).abs().amax(1, keepdim=True) > BACKDROP_STEP).float()

    def features(self, eye: Eye) -> Tensor:
        """What an eye sees in the images, [V, …]; it looks once, or has looked before (`look`)."""
        if eye not in self.seen:
            look([eye], [self])
        return self.seen[eye]


class AssetScorer(ABC):
    """A scorer of whole assets; it has no gradient and cannot steer a method."""

    higher_is_better = True
    differentiable = False
    view_words = False
    modules: tuple[str, ...] = ()
    """the modules that decide the score, for its hash"""

    def __init__(self, id: str) -> None:
        self.id = id

    @property
    def eye(self) -> Eye | None:
        """The network that it looks with, where it does."""
        return None

    @abstractmethod
    def score_asset(self, views: AssetViews) -> Tensor:
        """One score per view [V] in float32; NaN where the views cannot tell."""

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] alone, those of one prompt taken as one asset, to scores [N]."""
        scores = torch.full((len(images),), torch.nan)
        for prompt in dict.fromkeys(prompts):
            rows = torch.tensor([i for i, other in enumerate(prompts) if other == prompt])
            seen_from = cameras[rows] if cameras is not None else None
            scores[rows] = self.score_asset(AssetViews(prompt, images[rows].detach().cpu(), seen_from))
        return scores

    @cached_property
    def sha256(self) -> str:
        """Hash of all that decides the score."""
        return self.source_sha256()

    def source_sha256(self) -> str:
        """Hash of the source of the score."""
        files = [Path(str(import_module(name).__file__)) for name in (*self.modules, __name__)]
        return hashlib.sha256("\n".join(map(sha256_file, files)).encode()).hexdigest()


@torch.no_grad()
def score_views(scorer: Scorer, views: AssetViews) -> list[float | None]:
    """One value per view by any scorer, None for no score.

    A scorer that reads view words gets them in its captions, where the cameras are known.
    """
    if isinstance(scorer, AssetScorer):
        return json_values(scorer.score_asset(views))
    prompts = [views.prompt] * len(views)
    if scorer.view_words and views.cameras is not None:
        prompts = with_view_words(views.prompt, views.cameras)
    if isinstance(scorer, EyeScorer):
        return json_values(scorer.rate(views.features(scorer.eye), prompts))
    return json_values(scorer.score(views.images, prompts, views.cameras))


def eyes(scorers: Iterable[Scorer]) -> list[Eye]:
    """The eyes of those scorers that have one; loads their networks, which may raise EnvironmentProblem."""
    found = (getattr(scorer, "eye", None) for scorer in scorers)
    return [eye for eye in found if eye is not None]
