"""Scorers: images and prompts to one score per image; metric after a run and reward inside a method alike.

Neither torch nor a model is imported before one is asked for. Their names are in `psdbench.scorers.catalogue`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from psdbench.errors import unknown
from psdbench.scorers.catalogue import SCORERS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from psdbench.cameras import Cameras


class Scorer(Protocol):
    """A frozen judge of images.

    `id` carries version and scale (`hps_shapes`); `sha256` is the hash of all that decides its scores; where
    `view_words` is True the prompts it is given should name the view (``a red cube, back view``).
    """

    id: str
    higher_is_better: bool
    differentiable: bool

    @property
    def sha256(self) -> str: ...

    @property
    def view_words(self) -> bool: ...

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        """Images [N, 3, H, W] in [0, 1], one prompt (and camera) each, to scores [N] in float32.

        Differentiable with respect to the images where `differentiable` says so and the caller enables
        gradients; NaN means "no score".
        """
        ...


def load_scorer(id: str, device: torch.device | str = "cpu") -> Scorer:
    """The scorer of that id, its weights read on first use; UsageError with near names if there is none."""
    if id not in SCORERS:
        raise unknown("metric", id, SCORERS)
    listing = SCORERS[id]
    module, name = listing.target.split(":")
    build = getattr(import_module(f"psdbench.scorers.{module}"), name)
    if listing.weights:
        from psdbench import weights
        from psdbench.scorers.official import OFFICIAL

        return build(id, weights.folder(listing.weights), device, OFFICIAL[id])
    if not listing.folder:
        return build(id)
    from psdbench.world import weights_folder

    return build(id, weights_folder() / listing.folder, device)


def json_values(scores: Tensor) -> list[float | None]:
    """Scores as a list for JSON; what is not finite becomes None: unscored."""
    import math

    return [value if math.isfinite(value) else None for value in scores.detach().cpu().tolist()]
