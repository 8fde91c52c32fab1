"""What metrics declare about the controls: which faults each kind must rank below a good asset.

Apart from the controls themselves, so that a report needs no torch to read their outcome.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1
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
PICTURES = ("blank", "noise")
SEES: dict[str, tuple[str, ...]] = {
    "aesthetic": (*PICTURES, "blurred"),
    "image_reward": (*PICTURES, "blurred", "wrong_prompt"),
    "hps": (*PICTURES, "blurred", "wrong_prompt"),
    "pickscore": (*PICTURES, "blurred", "wrong_prompt"),
    "clip": (*PICTURES, "wrong_prompt"),
    "true_preference": (*PICTURES, "shuffled", "blurred", "wrong_prompt", "fog"),
    "ground_truth": (*PICTURES, "two_faced", "shuffled", "blurred", "wrong_prompt", "fog", "specks"),
    "shape_accuracy": (*PICTURES, "wrong_prompt"),
    "consistency": ("noise", "shuffled"),
    "janus": ("two_faced",),
    "coverage": ("blank", "fog"),
    "floaters": ("specks",),
}
"""which faults each kind of metric must rank below the good asset; the id of a metric begins with its kind"""


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
    kinds = [kind for kind in SEES if id == kind or id.startswith(f"{kind}_")]
    return SEES[max(kinds, key=len)] if kinds else ()
