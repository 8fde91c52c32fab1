"""What the stored renders of jobs look like: strips for the page, and statistics that drift when a reward is hacked.

A reward that is hacked often leaves marks that need no model to see: colours become garish, edges multiply, the
object grows or dissolves. The statistics are of the object's pixels, those that differ from the flat backdrop.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from psdbench.report.results import FINISHED, MAJORITY, Result
from psdbench.store.table import RENDERS

PICTURED = 600
"""jobs of which a report shows and measures pictures; of more, the first seeds of all methods"""
STATISTICS = {
    "saturation": "mean of (max − min) / max of the colour channels, 0 to 1",
    "edge density": "share of pixels where the brightness changes by more than 0.1 a pixel, 0 to 1",
    "colour entropy": "entropy of the colours in 64 boxes, bits, 0 to 6",
    "coverage": "share of the picture that the object covers, 0 to 1",
}
BACKDROP_STEP = 0.12
"""difference of a channel to the backdrop from which a pixel belongs to the object, as for the metrics"""
FEW_TILES, LARGE, SMALL = 1500, 128, 64
"""up to so many views a tile may be large; pixels"""
QUALITY, LOWER = 82, (60, 35, 15, 5)
"""of the WebP; the next lower one for all where the strips of a page would take more than `ROOM`"""
ROOM = 6_000_000
"""bytes of all strips of a page, which in base64 are a third more"""
LUMA = np.array([0.299, 0.587, 0.114])
"""shares of red, green and blue in brightness (ITU-R BT.601)"""


@dataclass(frozen=True)
class Imagery:
    """The views of a job side by side as WebP, and its statistics, means over the views that show anything."""

    strip: bytes
    views: int
    statistics: dict[str, float]


def chosen(results: Sequence[Result], share: int = 1) -> list[Result]:
    """The finished jobs whose pictures a page has room for: of too many, the first seeds of all methods.

    Of what a page can hold, one part of `share` is taken.
    """
    finished = [result for result in results if result.status == FINISHED]
    methods = list(dict.fromkeys(result.label for result in finished))
    finished.sort(key=lambda r: (r.spec.seed, r.spec.prompt, methods.index(r.label)))
    return finished[: PICTURED // share]


def read_imagery(results: Sequence[Result], share: int = 1) -> dict[Path, Imagery]:
    """By job folder, of the `chosen`; jobs whose renders are not all there and readable are left out."""
    shown = chosen(results, share)
    views = {len(list((r.folder / RENDERS).glob("view_*.png"))) for r in shown[:1]}
    tile = LARGE if share * len(shown) * max(views, default=0) <= FEW_TILES else SMALL
    found = {result.folder: _imagery(result, tile) for result in shown}
    return _fitting({folder: each for folder, each in found.items() if each}, ROOM // share)


def _fitting(found: dict[Path, Imagery], room: int) -> dict[Path, Imagery]:
    """The same with strips that take no more than `room` bytes together, as far as a lower quality can do it."""
    for quality in LOWER:
        if sum(len(each.strip) for each in found.values()) <= room:
            break
        found = {place: replace(each, strip=_encoded(each.strip, quality)) for place, each in found.items()}
    return found


def _encoded(strip: bytes, quality: int) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(strip)) as sheet:
        sheet.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()


def _imagery(result: Result, tile: int) -> Imagery | None:
    pictures = []
    paths = sorted((result.folder / RENDERS).glob("view_*.png"))
    scored = {len(score.values) for id, score in result.scores.items() if id != MAJORITY}
    if scored and scored != {len(paths)}:
        return None
    for path in paths:
        try:
            with Image.open(path) as picture:
                pictures.append(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None
    if not pictures:
        return None
    each = [statistics(np.asarray(picture, dtype=np.float32) / 255) for picture in pictures]
    known = [values for values in each if values]
    means = {name: float(np.mean([v[name] for v in known])) for name in STATISTICS} if known else {}
    return Imagery(strip(pictures, tile), len(pictures), means)


def strip(pictures: Sequence[Image.Image], tile: int) -> bytes:
    """Pictures side by side as WebP, none larger than it is or than `tile` pixels."""
    side = min(tile, max(max(picture.size) for picture in pictures))
    sheet = Image.new("RGB", (side * len(pictures), side), "white")
    for index, picture in enumerate(pictures):
        small = (
            picture
            if picture.size == (side, side)
            else picture.resize((side, side), Image.Resampling.LANCZOS)
        )
        sheet.paste(small, (index * side, 0))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


def statistics(picture: NDArray[np.floating[Any]]) -> dict[str, float]:
    """The statistics of a picture [H, W, 3] in [0, 1]; empty where there is no object."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    covered = np.abs(picture - np.median(border, axis=0)).max(-1) > BACKDROP_STEP
    if not covered.any():
        return {}
    colours = picture[covered]
    high, low = colours.max(-1), colours.min(-1)
    across, down = np.gradient(picture @ LUMA)
    boxes = (colours * 3.999).astype(np.int64) @ np.array([16, 4, 1])
    shares = np.bincount(boxes, minlength=64) / len(boxes)
    shares = shares[shares > 0]
    return {
        "saturation": float(((high - low) / np.maximum(high, 1e-6)).mean()),
        "edge density": float((np.hypot(across, down) > 0.1)[covered].mean()),
        "colour entropy": float(-(shares * np.log2(shares)).sum()),
        "coverage": float(covered.mean()),
    }
