"""All scorers by name: what they measure in which unit, what they need, and where class and weights are.

Imports nothing, so that names can be listed and checked at once. A name says what made the numbers, so none is
called plain `clip`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Listing:
    """A scorer that can be had by name."""

    summary: str
    """what it measures"""
    target: str
    """``module:class`` in psdbench.scorers"""
    unit: str
    ends: tuple[float, float] | None
    """of the scale, None where it has none"""
    needs: tuple[str, ...] = ()
    """beyond the picture; without them it has no score"""
    lower_is_better: bool = False
    folder: str = ""
    """of its embedded weights, where it has any"""
    weights: str = ""
    """the entry of weights.lock with its official weights, where it has any"""
    world_only: bool = False
    """knows nothing but the embedded world's shapes"""
    typical: str = "unbounded"
    """what to expect of a scale without ends"""

    @property
    def range(self) -> str:
        """For people: ``0 to 100``."""
        return "{:g} to {:g}".format(*self.ends) if self.ends else self.typical


_PROMPT = ("prompt",)
_AESTHETIC = "looks of the image alone"
_PREFERENCE = "preference given the prompt"
_AGREEMENT = "agreement of image and prompt"
_JANUS = "how much opposite views both claim to be the front"
_DEVIATIONS = "standard deviations"


def _clip(name: str, summary: str) -> Listing:
    target = "clip:ClipScorer"
    return Listing(f"{_AGREEMENT}: {summary}", target, "100 cosine", (0, 100), _PROMPT, weights=name)


def _hps(name: str, summary: str) -> Listing:
    target = "hps:HpsScorer"
    return Listing(f"{_PREFERENCE}: {summary}", target, "cosine", (-1, 1), _PROMPT, weights=name)


SCORERS: dict[str, Listing] = {
    "aesthetic_shapes": Listing(
        f"{_AESTHETIC}: LAION-type head on the embedded CLIP",
        "aesthetic:AestheticScorer",
        "log odds",
        None,
        folder="aesthetic",
        world_only=True,
    ),
    "image_reward_shapes": Listing(
        f"{_PREFERENCE}: ImageReward-type BLIP with a head",
        "image_reward:ImageRewardScorer",
        _DEVIATIONS,
        None,
        _PROMPT,
        folder="image_reward",
        world_only=True,
        typical="mostly -2 to 2",
    ),
    "hps_shapes": Listing(
        f"{_PREFERENCE}: CLIP fine-tuned on choices, HPS-type",
        "hps:HpsScorer",
        "cosine",
        (-1, 1),
        _PROMPT,
        folder="hps",
        world_only=True,
    ),
    "clip_shapes": Listing(
        f"{_AGREEMENT}: CLIP score of the embedded CLIP",
        "clip:ClipScorer",
        "100 cosine",
        (0, 100),
        _PROMPT,
        folder="clip",
        world_only=True,
    ),
    "true_preference": Listing(
        "the preference that the embedded world's annotators follow, without noise",
        "shapes_world:TruePreference",
        "points",
        (0, 100),
        _PROMPT,
        world_only=True,
    ),
    "ground_truth": Listing(
        "agreement with the render of the named scene, PSNR",
        "shapes_world:GroundTruth",
        "dB",
        (0, 60),
        ("prompt", "cameras"),
        world_only=True,
    ),
    "outline": Listing(
        "agreement of the outline with that of the named scene, place and size apart",
        "shapes_world:Outline",
        "intersection over union",
        (0, 1),
        ("prompt", "cameras"),
        world_only=True,
    ),
    "shape_accuracy": Listing(
        "1 where an independent classifier sees the named shapes and colours, else 0",
        "shapes_world:ShapeAccuracy",
        "right",
        (0, 1),
        _PROMPT,
        folder="judge",
        world_only=True,
    ),
    "consistency": Listing(
        "agreement of neighbouring views through the asset's own depth",
        "consistency:Consistency",
        "share",
        (0, 1),
        ("cameras", "depth"),
    ),
    "janus_shapes": Listing(
        f"{_JANUS}, by the embedded CLIP",
        "janus:Janus",
        "probability",
        (0, 1),
        ("prompt", "cameras"),
        lower_is_better=True,
        folder="clip",
        world_only=True,
    ),
    "coverage": Listing(
        "a solid object inside the frame: not empty, fog or cut off", "coverage:Coverage", "share", (0, 1)
    ),
    "floaters": Listing(
        "share of what is seen that hangs in the air beside the object",
        "floaters:Floaters",
        "share",
        (0, 1),
        lower_is_better=True,
    ),
    "aesthetic_laion_v2": Listing(
        f"{_AESTHETIC}: LAION's improved aesthetic predictor",
        "aesthetic:AestheticScorer",
        "points",
        None,
        weights="aesthetic_laion_v2",
        typical="about 1 to 10",
    ),
    "image_reward_v1.0": Listing(
        f"{_PREFERENCE}: ImageReward",
        "image_reward:ImageRewardScorer",
        _DEVIATIONS,
        None,
        _PROMPT,
        weights="image_reward_v1.0",
        typical="mostly -2 to 2",
    ),
    "hps_v2.0": _hps("hps_v2.0", "HPS v2 as first published"),
    "hps_v2.1": _hps("hps_v2.1", "HPS v2.1, trained on better data"),
    "clip_vit_l14": _clip("clip_vit_l14", "CLIP score of OpenAI's ViT-L/14"),
    "clip_vit_b32": _clip("clip_vit_b32", "CLIP score of OpenAI's ViT-B/32"),
    "clip_vit_b16": _clip("clip_vit_b16", "CLIP score of OpenAI's ViT-B/16"),
    "janus_clip_vit_l14": Listing(
        f"{_JANUS}, by OpenAI's CLIP ViT-L/14",
        "janus:Janus",
        "probability",
        (0, 1),
        ("prompt", "cameras"),
        lower_is_better=True,
        weights="clip_vit_l14",
    ),
    "pickscore_v1": Listing(
        f"{_PREFERENCE}: PickScore",
        "pickscore:PickScorer",
        "logits, 100 cosine",
        None,
        _PROMPT,
        weights="pickscore_v1",
        typical="mostly 15 to 25",
    ),
}


def scale(name: str) -> tuple[float, float] | None:
    """The ends of a scorer's scale; None where it has none, or is not of this list."""
    listing = SCORERS.get(name)
    return listing.ends if listing else None
