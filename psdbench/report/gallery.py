"""The pictures of the page: by job a strip of its views, its worst view, links to the full files, and its points."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.report.blocks import Table
from psdbench.report.html import data_url
from psdbench.report.imagery import Imagery, strip
from psdbench.report.points import Points
from psdbench.report.results import MAJORITY, Result
from psdbench.report.text import count, link, number, plain
from psdbench.report.verdict import TRUTH
from psdbench.store.table import RENDERS

if TYPE_CHECKING:
    from psdbench.report.analysis import Analysis, Metric

TURNTABLE = "turntable.mp4"


@dataclass(frozen=True)
class Gallery:
    """What the page's script is given, and what the page itself must know of it."""

    data: dict[str, Any]
    first: dict[tuple[str, str], int] = field(default_factory=dict)
    """by prompt and method the number of its first picture"""
    left_out: int = 0
    """finished jobs for whose pictures the page has no room"""
    damaged: int = 0
    """finished jobs whose renders are missing or unreadable"""

    @property
    def turnable(self) -> bool:
        """Whether any asset can be turned in 3D."""
        return any("points" in job for job in self.data["jobs"])

    def thumbs(self, table: Table) -> list[int | None]:
        """For each row of prompt and method the number of the picture that stands for it."""
        return [self.first.get((row[0].text, row[1].text)) for row in table.rows]

    @property
    def note(self) -> str:
        """Which jobs are not shown; empty when all are."""
        notes = []
        if self.left_out:
            jobs = count(self.left_out, "finished job")
            notes.append(f"{jobs} without a picture here: their files are in the run folder.")
        if self.damaged:
            jobs = count(self.damaged, "finished job")
            notes.append(
                f"{jobs} whose renders are missing or damaged: without a picture, but with the scores, which are "
                "sealed. The same psdbench run makes the renders again."
            )
        return " ".join(notes)


def gallery(
    results: Sequence[Result],
    analysis: Analysis,
    imagery: Mapping[Path, Imagery],
    points: Mapping[Path, Points],
    folder: Path,
    room: int | None = None,
) -> Gallery:
    """All jobs with pictures, prompt by prompt in the order of the methods; links are relative to `folder`.

    There was `room` for the pictures of so many finished jobs, or for all.
    """
    order = {method: index for index, method in enumerate(analysis.methods)}
    shown = [result for result in results if result.folder in imagery]
    shown.sort(key=lambda r: (r.spec.prompt, order[r.label], r.spec.seed))
    prompts = list(dict.fromkeys(result.spec.prompt for result in shown))
    jobs = [_job(r, analysis, imagery[r.folder], points.get(r.folder), prompts, folder) for r in shown]
    first: dict[tuple[str, str], int] = {}
    for index, result in enumerate(shown):
        first.setdefault((result.spec.prompt, result.label), index)
    finished = sum(analysis.finished.values())
    data = {
        "prompts": [plain(prompt) for prompt in prompts],
        "jobs": jobs,
        "views": _view_names(shown),
        "truth": _truths(prompts, shown),
    }
    room = finished if room is None else room
    return Gallery(data, first, finished - room, room - len(shown))


def _job(
    result: Result,
    analysis: Analysis,
    pictures: Imagery,
    cloud: Points | None,
    prompts: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    job: dict[str, Any] = {
        "prompt": prompts.index(result.spec.prompt),
        "method": plain(result.label),
        "seed": result.spec.seed,
        "strip": data_url(pictures.strip),
        "views": pictures.views,
        "scores": [
            [m.id, number(result.scores[m.id].mean)]
            for m in analysis.metrics
            if m.id in result.scores and m.id != MAJORITY
        ],
        "links": _links(result, folder),
    }
    if worst := worst_view(result, analysis, pictures.views):
        job["worst"], job["worstText"] = worst
    if cloud:
        job["points"] = base64.b64encode(cloud.packed).decode()
        job["cell"] = cloud.cell
    return job


def _links(result: Result, folder: Path) -> list[list[str]]:
    """The full-size files, where they are."""
    places = {"full-size views": result.folder / RENDERS, "turntable": result.folder / TURNTABLE}
    return [[name, link(place, folder)] for name, place in places.items() if place.exists()]


def shown_metric(analysis: Analysis) -> Metric | None:
    """The metric of figures and worst views: the true preference, else the first that nothing was trained on."""
    held_out = [m for m in analysis.metrics if not m.trained_on and m.id != MAJORITY]
    return analysis.metric(TRUTH) or next(iter(held_out or analysis.metrics), None)


def worst_view(result: Result, analysis: Analysis, views: int) -> tuple[int, str] | None:
    """The view that the shown metric likes least, and its score in words."""
    metric = shown_metric(analysis)
    score = result.scores.get(metric.id) if metric else None
    if metric is None or score is None or len(score.values) != views:
        return None
    known = [(value, index) for index, value in enumerate(score.values) if value is not None]
    if not known:
        return None
    value, index = min(known) if metric.higher_is_better else max(known)
    return index, f"{metric.id} {number(value)}"


def _view_names(results: Sequence[Result]) -> list[str]:
    from psdbench.report.sheets import column_names, rig_of

    return column_names(results[0], rig_of(results[0])) if results else []


def _truths(prompts: Sequence[str], results: Sequence[Result]) -> dict[str, str]:
    """By number of prompt the strip of the named scene, where the embedded world knows it."""
    from psdbench.report.sheets import rig_of, truth

    if not results:
        return {}
    protocol, rig = results[0].spec.protocol, rig_of(results[0])
    scenes = {str(index): truth(prompt, rig, protocol) for index, prompt in enumerate(prompts)}
    return {index: data_url(strip(views, views[0].width)) for index, views in scenes.items() if views}
