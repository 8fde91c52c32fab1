"""What of a job folder no result and no report needs: it may go to make room.

That is: checkpoints of jobs that have ended for good, what was set aside as damaged, and what killed writers
left. Files that a manifest or a record of stages names are never among it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psdbench.errors import CorruptResult
from psdbench.store import atomic
from psdbench.store.manifest import QUARANTINE, read_manifest
from psdbench.store.run import claim

CHECKPOINTS = "checkpoint-*.safetensors"


@dataclass(frozen=True)
class Waste:
    """A file that may go, and why."""

    path: Path
    size: int
    """bytes"""
    why: str


def prune(folder: Path, dry_run: bool) -> list[Waste] | None:
    """Remove what is not needed of a job folder, or with `dry_run` only tell; None while a process works on it."""
    with claim(folder) as mine:
        if not mine:
            return None
        found = sorted(_waste(folder), key=lambda waste: waste.path)
        if not dry_run:
            with atomic.explained(folder):
                for waste in found:
                    waste.path.unlink()
                for place in _quarantines(folder):
                    shutil.rmtree(place)
        return found


def _waste(folder: Path) -> Iterator[Waste]:
    named = {path: "left by a killed writer" for path in atomic.left_over(folder, "**/")}
    for place in _quarantines(folder):
        named |= {path: "set aside as damaged" for path in place.rglob("*")}
    if _ended(folder):
        named |= {path: "checkpoint of a job that has ended" for path in folder.glob(CHECKPOINTS)}
    for path, why in named.items():
        if path.is_symlink() or path.is_file():
            yield Waste(path, path.lstat().st_size, why)


def _quarantines(folder: Path) -> list[Path]:
    """Where damaged files are. A link of that name is none: through it we would remove what lies elsewhere."""
    places = [place for place in folder.rglob(QUARANTINE) if place.is_dir() and not place.is_symlink()]
    return [place for place in places if QUARANTINE not in place.relative_to(folder).parent.parts]


def _ended(folder: Path) -> bool:
    """Whether nothing will ever continue the job; one that failed is tried again."""
    try:
        manifest = read_manifest(folder)
    except CorruptResult:
        return False
    return manifest is not None and manifest.status != "failed"
