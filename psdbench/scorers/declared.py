"""What metrics declare about the controls: which faults each kind must rank below a good asset.

Apart from the controls themselves, so that a report needs no torch to read their outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

VERSION = 2
"""raised when a control changes, so that stored outcomes are made again"""
GOOD = "good"
FAULTS = {
    "two_faced": "its front is seen from the front and from behind",
    "shuffled": "every picture is right, but of another view",
    "fog": "half transparent",
    "specks": "small pieces float beside it",
    "blank": "nothing there",
    "noise": "every pixel random",
    "blurred": "without detail",
    "wrong_prompt": "another prompt than that of the asset",
}
"""what is wrong with each control"""


class Claim(NamedTuple):
    """What a kind of metric says of itself."""

    sees: tuple[str, ...]
    """the faults that it must rank below the good asset, by what it claims to measure, not by what it passes"""
    blind: str
    """why it is not asked about the others"""


_PICTURE = ("blank", "noise")
_PREFERENCE = Claim(
    (*_PICTURE, "blurred", "wrong_prompt"),
    "it judges one picture by the prompt and is not told from where it was taken, so a second face and shuffled "
    "views are right to it; fog and specks are no faults that its annotators were asked about",
)
CLAIMS: dict[str, Claim] = {
    "aesthetic": Claim(
        (*_PICTURE, "blurred"),
        "it reads no prompt and judges one picture at a time; fog and specks are a matter of taste",
    ),
    "image_reward": _PREFERENCE,
    "hps": _PREFERENCE,
    "pickscore": _PREFERENCE,
    "clip": Claim(
        (*_PICTURE, "wrong_prompt"),
        "it asks what is shown: a blurred, foggy or specked cube is a cube, and so is one seen from elsewhere",
    ),
    "true_preference": Claim(
        tuple(fault for fault in FAULTS if fault != "two_faced"),
        "a second face costs each view from behind 2 to 12 points, but its pale edge passes for gloss in views from "
        "the side, so that the mean over the views need not fall; `ground_truth` and `janus` ask for it",
    ),
    "ground_truth": Claim(tuple(FAULTS), ""),
    "outline": Claim(
        (*_PICTURE, "wrong_prompt"),
        "it asks for the outline and nothing else; that of a blurred object is hardly another",
    ),
    "shape_accuracy": Claim(
        (*_PICTURE, "wrong_prompt"),
        "it asks whether the named shapes and colours can be told, which the other faults need not hinder",
    ),
    "consistency": Claim(
        ("noise", "shuffled"),
        "blank and fog have no surface and so no score; the others are what they are from all sides",
    ),
    "janus": Claim(("two_faced",), "it asks which views claim to be the front and nothing else"),
    "coverage": Claim(("blank", "fog"), "it asks how much is there, not what"),
    "floaters": Claim(("specks",), "it asks what hangs in the air and nothing else"),
}
"""by kind; the id of a metric begins with its kind"""


@dataclass(frozen=True)
class Outcome:
    """What a metric made of the controls: the mean score over views and assets of each, None for no score."""

    higher_is_better: bool
    means: dict[str, float | None]
    missed: tuple[str, ...]
    """declared faults that it did not rank below the good asset, for at least one of the assets"""

    @property
    def valid(self) -> bool:
        """Whether it ranked all as declared."""
        return not self.missed


def sees(id: str) -> tuple[str, ...]:
    """The faults that a metric declares; none for a metric of an unknown kind."""
    kinds = [kind for kind in CLAIMS if id == kind or id.startswith(f"{kind}_")]
    return CLAIMS[max(kinds, key=len)].sees if kinds else ()
