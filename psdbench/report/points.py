"""An asset as coloured points, from its stored renders and their depth: for any representation, without loading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psdbench.errors import CorruptResult
from psdbench.report.results import FINISHED, Result
from psdbench.store.table import GEOMETRY

CELLS = (0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1)
"""edges of the cells in which points are merged, world units: the first that leaves few enough is taken"""
OPAQUE = 0.9
"""opacity from which the depth of a pixel is that of a surface"""
MOST, LEAST, TOTAL = 12_000, 2500, 500_000
"""points of one asset, and of all assets of a page"""


@dataclass(frozen=True)
class Points:
    """N points in [-1, 1]³: six bytes each, place and colour; `cell` is their distance, world units."""

    packed: bytes
    """x, y, z in [0, 255] over [-1, 1], then r, g, b"""
    cell: float

    def __len__(self) -> int:
        return len(self.packed) // 6


def read_points(results: Sequence[Result], share: int = 1) -> dict[Path, Points]:
    """By job folder, of the lowest seed of each prompt and method; of jobs with depth.

    Of what a page can hold, one part of `share` is taken.
    """
    first: dict[tuple[str, str], Result] = {}
    for result in sorted(results, key=lambda r: r.spec.seed):
        if result.status == FINISHED and not result.foreign:
            first.setdefault((result.spec.prompt, result.label), result)
    total = TOTAL // share
    shown = list(first.values())[: total // LEAST]
    limit = min(MOST, total // max(1, len(shown)))
    found = {result.folder: coloured_points(result, limit) for result in shown}
    return {folder: points for folder, points in found.items() if points}


def coloured_points(result: Result, limit: int) -> Points | None:
    """At most `limit` points of an asset's surface; None where no depth was stored or nothing is opaque."""
    if not (result.folder / GEOMETRY).exists():
        return None
    from psdbench.cameras import evaluation_rig  # brings torch, which is much of a report's memory
    from psdbench.job.evaluate import read_asset_views

    rig = evaluation_rig(result.spec.protocol.cameras)
    try:
        views = read_asset_views(result.folder, result.spec.prompt, rig)
    except CorruptResult:
        return None
    if views.depth is None or views.opacity is None:
        return None
    origins, directions = rig.rays(views.images.shape[-1])
    places = origins + views.depth[:, 0, ..., None] * directions
    seen = (views.opacity[:, 0] > OPAQUE) & (views.depth[:, 0] > 0) & (places.abs().amax(-1) <= 1)
    if not bool(seen.any()):
        return None
    colours = views.images.permute(0, 2, 3, 1)[seen]
    return merged(places[seen].double().numpy(), colours.double().numpy(), limit)


def merged(places: NDArray[np.float64], colours: NDArray[np.float64], limit: int) -> Points:
    """Points [N, 3] in [-1, 1] with colours [N, 3] in [0, 1], those of one cell merged into their mean."""
    for cell in CELLS:
        _, group, count = np.unique(
            np.floor(places / cell).astype(np.int64), axis=0, return_inverse=True, return_counts=True
        )
        if len(count) <= limit:
            break
    rows = group.ravel()
    sums = [np.bincount(rows, column) / count for column in (*places.T, *colours.T)]
    kept = np.stack(sums, 1)
    if len(kept) > limit:
        kept = kept[np.random.default_rng(0).permutation(len(kept))[:limit]]
    kept[:, :3] = (kept[:, :3] + 1) / 2
    return Points((kept.clip(0, 1) * 255).round().astype(np.uint8).tobytes(), cell)
