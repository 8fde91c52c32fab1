"""Writing a study: `study.html` for the raters, and `key.json`, which says what they saw and stays here."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from psdbench.errors import CorruptResult
from psdbench.report.html import data_url, render
from psdbench.report.imagery import strip
from psdbench.report.results import Result, read_runs
from psdbench.report.text import plain
from psdbench.store import atomic
from psdbench.store.sealed import write_record
from psdbench.study.items import Item, choose, stored

FOLDER, PAGE, KEY = "study", "study.html", "key.json"
TILE = 192
"""largest side of a view on the page, pixels"""
SCHEMA_VERSION = 1


def export_study(run: Path, count: int, secret: str | None = None) -> tuple[Path, list[Item]]:
    """Write the page and the key of a new study into RUN/study; the page and the items.

    `secret` makes a study repeatable; without it each is another one. Raises UsageError when there is nothing
    to compare, CorruptResult when a render cannot be read.
    """
    results = read_runs([run])
    secret = secret or secrets.token_hex(16)
    items = choose(results, count, secret)
    folder = run / FOLDER
    study = hashlib.sha256(f"study {secret}".encode()).hexdigest()[:16]
    by_key = {(r.label, r.key): r for r in results}
    content = [_shown(item, by_key) for item in items]
    data = {"study": study, "items": content, "around": _around(results)}
    write_record(folder / KEY, {"study": study, "items": stored(items)})
    atomic.write_text(folder / PAGE, render("psdbench.study", "study", data=data))
    return folder / PAGE, items


def _around(results: Sequence[Result]) -> int:
    """Views that go once around the asset; the last one of our rig looks from above."""
    return results[0].spec.protocol.cameras.rig_views


def _shown(item: Item, by_key: dict[tuple[str, tuple[str, int]], Result]) -> dict[str, object]:
    key = item.prompt, item.seed
    a = _views(by_key[item.a, key].folder)
    b = _noise(a, item.id) if item.check else _views(by_key[item.b, key].folder)
    return {
        "id": item.id,
        "prompt": plain(item.prompt),
        "views": len(a),
        "a": data_url(strip(a, TILE)),
        "b": data_url(strip(b, TILE)),
    }


def _views(folder: Path) -> list[Image.Image]:
    paths = sorted((folder / "renders").glob("view_*.png"))
    try:
        views = [Image.open(path).convert("RGB") for path in paths]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CorruptResult(
            f"a render in {folder} cannot be read: {error}", "run the same command again"
        ) from error
    if not views:
        raise CorruptResult(
            f"{folder} has no renders", "give the psdbench run of it again: it makes them anew"
        )
    return views


def _noise(like: Sequence[Image.Image], id: str) -> list[Image.Image]:
    """Coarse colour noise over white, nobody's idea of anything."""
    rng = np.random.default_rng(int(id, 16))
    pictures = []
    for picture in like:
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        pictures.append(coarse.resize(picture.size, Image.Resampling.NEAREST))
    return pictures
