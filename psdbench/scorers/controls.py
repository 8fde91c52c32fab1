"""Controls: views whose order is known, on which every metric of a run must show that it works.

A *good* asset and the same with one fault each. A metric declares which faults it can see, by what it is given
and made for, and must score the good asset better than each of those. One that does not is marked in the report
as not valid for the run, whatever its numbers say.

In the embedded world the good asset is the render of a named scene, and the faults are built into it. For other
priors nobody knows the truth: the good asset is the best-known, and the two-faced one shows its front from behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, evaluation_rig
from psdbench.scorers.asset import AssetViews, eyes, score_views
from psdbench.scorers.declared import GOOD, Outcome, sees
from psdbench.scorers.eye import look

if TYPE_CHECKING:
    from psdbench.scorers import Scorer
    from psdbench.world.known import KnownViews

WORLD_PROMPTS = {
    "a red cube with a face": "a blue sphere",
    "a yellow cylinder with a face": "a purple cone",
    "a green cone with a face": "a pink cube",
}
"""the good assets of the embedded world, each with another prompt; faces, for else no side is the front"""
BLUR = 1 / 16
"""standard deviation of the blur, as a share of the picture's side"""


def judge(scorer: Scorer, controls: Sequence[Mapping[str, AssetViews]]) -> Outcome:
    """Score the good assets and their declared faults.

    A fault without a score counts as seen: nothing will be reported of it. A good asset without one is left out, for
    a metric may be made for some prompts only; a metric that has none for any of them has missed every fault.
    """
    asked = (GOOD, *sees(scorer.id))
    look(eyes([scorer]), [each[name] for each in controls for name in asked if name in each])
    tables = [
        {name: _mean(score_views(scorer, each[name])) for name in asked if name in each} for each in controls
    ]
    tables = [table for table in tables if table[GOOD] is not None] or tables
    sign = 1 if scorer.higher_is_better else -1
    missed = [
        fault
        for fault in sees(scorer.id)
        if not all(_better(sign, table[GOOD], table[fault]) for table in tables if fault in table)
    ]
    names = dict.fromkeys(name for table in tables for name in table)
    means = {name: _mean([table[name] for table in tables if name in table]) for name in names}
    return Outcome(scorer.higher_is_better, means, tuple(missed))


def _better(sign: int, good: float | None, bad: float | None) -> bool:
    return good is not None and (bad is None or sign * good > sign * bad)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are there, as a report takes it; None without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def world_controls(size: int = 64, cameras: CameraConfig | None = None) -> Iterator[dict[str, AssetViews]]:
    """The controls of the embedded world, one set for each of `WORLD_PROMPTS`."""
    from psdbench.world.known import known_views

    rig = evaluation_rig(cameras or CameraConfig())
    for prompt, other in WORLD_PROMPTS.items():
        good, faced = (_known(prompt, rig, known_views(prompt, rig, size, both)) for both in (False, True))
        yield controls_of(good, other) | {"two_faced": faced}


def _known(prompt: str, rig: Cameras, views: KnownViews) -> AssetViews:
    return AssetViews(prompt, views.rgb, rig, views.opacity, views.depth)


def controls_of(good: AssetViews, other_prompt: str) -> dict[str, AssetViews]:
    """A good asset and its faults; those that need what the asset does not tell (opacity, cameras) are left out.

    All are made from its views, and the random ones from a fixed seed, so they are the same every time.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(good.images.shape, generator=generator)
    clear = torch.zeros_like(good.images[:, :1])
    faults = {
        "blank": replace(good, images=torch.ones_like(good.images), opacity=clear, depth=clear),
        "noise": replace(good, images=noise),
        "blurred": replace(good, images=_blurred(good.images)),
        "wrong_prompt": replace(good, prompt=other_prompt),
        "shuffled": replace(good, images=good.images.roll(len(good) // 3, 0)),
    }
    if good.opacity is not None:
        faults["fog"] = replace(
            good, images=(good.images + 1) / 2, opacity=good.opacity / 2
        )  # over white, as all renders
        faults["specks"] = _specked(good, good.opacity)
    if good.cameras is not None:
        faults["two_faced"] = _turned(good, good.cameras)
    return {GOOD: good, **faults}


def _blurred(images: Tensor) -> Tensor:
    from psdbench.world.renderer import gaussian_blur

    return gaussian_blur(images, BLUR * images.shape[-1])


def _specked(good: AssetViews, opacity: Tensor) -> AssetViews:
    """Dark squares of a sixteenth of the side, where a view is empty, in its corners."""
    side = opacity.shape[-1]
    width, edge = max(1, side // 16), max(1, side // 32)
    specks = torch.zeros_like(opacity)
    for row in (edge, side - edge - width):
        for column in (edge, side - edge - width):
            specks[..., row : row + width, column : column + width] = 1
    specks *= opacity < 0.5
    return replace(good, images=good.images * (1 - 0.8 * specks), opacity=torch.maximum(opacity, specks))


def _turned(good: AssetViews, cameras: Cameras) -> AssetViews:
    """The asset with the picture of the opposite view in every view from behind."""
    behind = ((cameras.azimuth + 180) % 360 - 180).abs() > 90
    mirrored = [
        int(((cameras.azimuth - azimuth) % 360 - 180).abs().add((cameras.elevation - height).abs()).argmin())
        for azimuth, height in zip(cameras.azimuth, cameras.elevation, strict=True)
    ]
    source = torch.where(behind, torch.tensor(mirrored), torch.arange(len(cameras)))
    opacity, depth = (each if each is None else each[source] for each in (good.opacity, good.depth))
    return replace(good, images=good.images[source], opacity=opacity, depth=depth)
