"""Scorers: images and prompts to one score per image; metric after a run and reward inside a method alike.

This module knows the scorers by name and imports neither torch nor a model before one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from psdbench.errors import unknown

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


@dataclass(frozen=True)
class Listing:
    """A scorer that can be had by name: what it measures, and where class and weights are."""

    summary: str
    target: str
    folder: str = ""
    """of the embedded weights, where it has any"""
    official: bool = False
    """its weights are the official ones, which psdbench prefetch gets"""


def _official(summary: str, target: str) -> Listing:
    return Listing(summary, f"psdbench.scorers.{target}", official=True)


SCORERS: dict[str, Listing] = {
    "aesthetic_shapes": Listing(
        "looks of the image alone: LAION-type head on the embedded CLIP",
        "psdbench.scorers.aesthetic:AestheticScorer",
        "aesthetic",
    ),
    "image_reward_shapes": Listing(
        "preference given the prompt: ImageReward-type BLIP with a head",
        "psdbench.scorers.image_reward:ImageRewardScorer",
        "image_reward",
    ),
    "hps_shapes": Listing(
        "preference given the prompt: CLIP fine-tuned on choices, HPS-type",
        "psdbench.scorers.hps:HpsScorer",
        "hps",
    ),
    "clip_shapes": Listing(
        "agreement of image and prompt: CLIP score of the embedded CLIP",
        "psdbench.scorers.clip:ClipScorer",
        "clip",
    ),
    "true_preference": Listing(
        "the preference that the embedded world's annotators follow, without noise",
        "psdbench.scorers.shapes_world:TruePreference",
    ),
    "ground_truth": Listing(
        "agreement with the render of the named scene, PSNR in dB",
        "psdbench.scorers.shapes_world:GroundTruth",
    ),
    "cube_outline": Listing(
        "1 where the outline of a lone cube is that of its direction, else 0; other prompts have no score",
        "psdbench.scorers.shapes_world:CubeOutline",
    ),
    "shape_accuracy": Listing(
        "1 where an independent classifier sees the named shapes and colours, else 0",
        "psdbench.scorers.shapes_world:ShapeAccuracy",
        "judge",
    ),
    "consistency": Listing(
        "agreement of neighbouring views through the asset's own depth, 0 to 1",
        "psdbench.scorers.consistency:Consistency",
    ),
    "janus_shapes": Listing(
        "how much opposite views both claim to be the front, 0 to 1, by the embedded CLIP",
        "psdbench.scorers.janus:Janus",
        "clip",
    ),
    "coverage": Listing(
        "a solid object inside the frame: not empty, fog or cut off, 0 to 1",
        "psdbench.scorers.coverage:Coverage",
    ),
    "floaters": Listing(
        "share of what is seen that hangs in the air beside the object, 0 to 1",
        "psdbench.scorers.floaters:Floaters",
    ),
    "aesthetic_laion_v2": _official(
        "looks of the image alone: LAION's improved aesthetic predictor, about 1 to 10",
        "aesthetic:AestheticScorer",
    ),
    "image_reward_v1.0": _official(
        "preference given the prompt: ImageReward, standardised, mostly -2 to 2",
        "image_reward:ImageRewardScorer",
    ),
    "hps_v2.0": _official(
        "preference given the prompt: HPS v2 as first published, a cosine", "hps:HpsScorer"
    ),
    "hps_v2.1": _official(
        "preference given the prompt: HPS v2.1, trained on better data, a cosine", "hps:HpsScorer"
    ),
    "clip_vit_l14": _official(
        "agreement of image and prompt: CLIP score of OpenAI's ViT-L/14, 0 to 100", "clip:ClipScorer"
    ),
    "clip_vit_b32": _official(
        "agreement of image and prompt: CLIP score of OpenAI's ViT-B/32, 0 to 100", "clip:ClipScorer"
    ),
    "clip_vit_b16": _official(
        "agreement of image and prompt: CLIP score of OpenAI's ViT-B/16, 0 to 100", "clip:ClipScorer"
    ),
    "pickscore_v1": _official(
        "preference given the prompt: PickScore, cosine times CLIP's scale of 100", "pickscore:PickScorer"
    ),
}
"""all scorers; a name says what made the numbers, so none is called plain `clip`"""


def load_scorer(id: str, device: torch.device | str = "cpu") -> Scorer:
    """The scorer of that id, its weights read on first use; UsageError with near names if there is none."""
    if id not in SCORERS:
        raise unknown("metric", id, SCORERS)
    listing = SCORERS[id]
    module, name = listing.target.split(":")
    build = getattr(import_module(module), name)
    if listing.official:
        from psdbench import weights
        from psdbench.scorers.official import OFFICIAL

        return build(id, weights.folder(id), device, OFFICIAL[id])
    if not listing.folder:
        return build(id)
    from psdbench.world import weights_folder

    return build(id, weights_folder() / listing.folder, device)


def json_values(scores: Tensor) -> list[float | None]:
    """Scores as a list for JSON; what is not finite becomes None: unscored."""
    import math

    return [value if math.isfinite(value) else None for value in scores.detach().cpu().tolist()]
