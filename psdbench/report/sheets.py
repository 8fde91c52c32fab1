"""Contact sheets: for each prompt the views of every method, and all prompts at a glance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from psdbench.config import Protocol, slug
from psdbench.errors import UsageError
from psdbench.report.document import Pictures
from psdbench.report.drawing import Cell, Row, draw_grid
from psdbench.report.results import FINISHED, Result
from psdbench.report.text import plain
from psdbench.store import atomic

if TYPE_CHECKING:
    from psdbench.cameras import Cameras

TILE, LARGE_TILE = 128, 192
"""side of a view on a sheet, pixels: small renders, such as the embedded world's of 64, and large ones"""
MAX_ROWS = 12
"""rows of a sheet above which each method shows only its first seed"""
OVERVIEW_PROMPTS = 24
"""rows of an overview; more prompts go on further pictures"""
OVERVIEW_AZIMUTH = 45.0
"""degrees: front and side at once"""
TRUTH = "ground truth"


def draw_sheets(results: Sequence[Result], methods: Sequence[str], folder: Path) -> Pictures:
    """Write one PNG for each prompt and the overviews into `folder`; methods stand in the order given."""
    protocol = results[0].spec.protocol
    rig = rig_of(results[0])
    ordered = sorted(results, key=lambda r: (r.spec.prompt, methods.index(r.label), r.spec.seed))
    prompts = list(dict.fromkeys(result.spec.prompt for result in ordered))
    truths = {prompt: truth(prompt, rig, protocol) for prompt in prompts}
    by_prompt = {}
    for prompt, name in zip(prompts, _file_names(prompts), strict=True):
        by_prompt[prompt] = folder / name
        own = [result for result in ordered if result.spec.prompt == prompt]
        _save(_sheet(prompt, own, rig, truths[prompt]), folder / name)
    overviews = []
    for start in range(0, len(prompts), OVERVIEW_PROMPTS):
        page = prompts[start : start + OVERVIEW_PROMPTS]
        path = folder / (f"overview-{start // OVERVIEW_PROMPTS + 1}.png" if start else "overview.png")
        _save(_overview(page, ordered, methods, rig, truths), path)
        overviews.append(path)
    return Pictures(tuple(overviews), by_prompt)


def _sheet(prompt: str, results: Sequence[Result], rig: Cameras, truth: list[Image.Image]) -> Image.Image:
    columns = column_names(results[0], rig)
    if len(results) > MAX_ROWS:
        results = [
            r for r in results if r.spec.seed == min(o.spec.seed for o in results if o.label == r.label)
        ]
    rows = [Row(TRUTH, "", [Cell(picture) for picture in truth])] if truth else []
    above = [TRUTH if truth else results[0].label, *(result.label for result in results)]
    rows += [
        Row(r.label, f"seed {r.spec.seed}", _views(r, len(columns)), apart=r.label != before)
        for r, before in zip(results, above, strict=False)
    ]
    return draw_grid(plain(prompt), columns, rows, _tile(results[0]), 150)


def rig_of(result: Result) -> Cameras:
    """The cameras of a result's views; around the object, from wherever, for renders of unknown cameras."""
    from psdbench.cameras import evaluation_rig

    rig = evaluation_rig(result.spec.protocol.cameras)
    return rig[:-1] if result.foreign else rig  # nobody else has our view from above


def column_names(result: Result, rig: Cameras) -> list[str]:
    """What each view looks at, or its number where the cameras are not known."""
    if result.spec.foreign and not result.spec.foreign.oriented:
        return [f"view {index}" for index in range(len(rig))]
    return [
        f"{word.removesuffix(' view')} {angle:.0f}°"
        for word, angle in zip(rig.view_words(), rig.azimuth.tolist(), strict=True)
    ]


def _overview(
    prompts: Sequence[str],
    results: Sequence[Result],
    methods: Sequence[str],
    rig: Cameras,
    truths: dict[str, list[Image.Image]],
) -> Image.Image:
    """Prompts x methods, the lowest seed of each, from one side."""
    view = int(
        (rig.azimuth - OVERVIEW_AZIMUTH).abs().add((rig.elevation - rig.elevation.min()).abs()).argmin()
    )
    known = any(truths[prompt] for prompt in prompts)
    first: dict[tuple[str, str], Result] = {}
    for result in results:
        first.setdefault((result.spec.prompt, result.label), result)
    rows = []
    for prompt in prompts:
        shown = [Cell(truths[prompt][view]) if truths[prompt] else Cell()] if known else []
        shown += [_view(first[prompt, m], view) if (prompt, m) in first else Cell() for m in methods]
        rows.append(Row(plain(prompt), "", shown))
    title = f"One view of each asset: azimuth {rig.azimuth[view].item():.0f}°, first seed"
    return draw_grid(title, [*([TRUTH] if known else []), *methods], rows, _tile(results[0]), 190)


def _tile(result: Result) -> int:
    return LARGE_TILE if result.spec.protocol.evaluate.size > TILE else TILE


def _views(result: Result, views: int) -> list[Cell]:
    """The renders of a job; without a result, the reason once."""
    if result.status != FINISHED:
        return [_view(result, 0), *[Cell()] * (views - 1)]
    return [_view(result, view) for view in range(views)]


def _view(result: Result, view: int) -> Cell:
    """A stored render, or why there is none."""
    if result.status != FINISHED:
        return Cell(words=f"{result.status}: {plain(result.reason)}" if result.reason else result.status)
    try:
        with Image.open(result.folder / "renders" / f"view_{view:02d}.png") as picture:
            return Cell(picture.convert("RGB"))
    except FileNotFoundError:
        return Cell(words="no render")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Cell(words="unreadable")


def truth(prompt: str, rig: Cameras, protocol: Protocol) -> list[Image.Image]:
    """The named scene from the rig at the size of the renders; empty where the world does not know it."""
    from psdbench.world.scenes import render_prompt

    try:
        views = render_prompt(prompt, rig, protocol.evaluate.size)
    except UsageError:
        return []
    pixels = (views.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(view) for view in pixels]


def _file_names(prompts: Sequence[str]) -> Iterator[str]:
    """A file name for each prompt; those that read alike, or like the overview, get a piece of their hash."""
    slugs = [slug(prompt) for prompt in prompts]
    for prompt, name in zip(prompts, slugs, strict=True):
        taken = slugs.count(name) > 1 or name.startswith("overview")
        mark = f"-{hashlib.sha256(prompt.encode()).hexdigest()[:6]}" if taken else ""
        yield f"{name}{mark}.png"


def _save(picture: Image.Image, path: Path) -> None:
    atomic.write_with(path, lambda temporary: picture.save(temporary, format="PNG"))
