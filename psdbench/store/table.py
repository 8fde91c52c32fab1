"""The table of a run: one row per job, scorer and view, read from the verified files of the job folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.config import JobSpec
from psdbench.errors import CorruptResult
from psdbench.store.manifest import Manifest, read_manifest, result_problems
from psdbench.store.run import existing_run, job_folders, read_job
from psdbench.store.sealed import read_json

if TYPE_CHECKING:
    import pandas as pd

RENDERS = "renders"
GEOMETRY = f"{RENDERS}/geometry.safetensors"
"""beside the pictures, what they do not tell: `opacity` [V, H, W] in bytes and `depth` [V, H, W] in half floats"""
SCORES, COST = "scores.json", "cost.json"
SNAPSHOTS, SHARE = "snapshots", "share"
"""folder of a job, and the entry of a snapshot's cost.json: after which part of the job it was due, in (0, 1)"""
COLUMNS = ("prompt", "method", "seed", "job", "protocol", "scorer", "view", "value", "status")
UNFINISHED = "unfinished"


def load_table(run: Path) -> pd.DataFrame:
    """One row per job x scorer x view, sorted, with the columns of `COLUMNS`.

    A job without scores (diverged, failed, unfinished) is one row whose scorer is None and whose view and
    value are missing. A value that is missing in a scored row means: that scorer gave none. Raises
    CorruptResult when a finished job's scores are not those of its manifest.
    """
    import pandas as pd

    rows = [row for folder in job_folders(existing_run(run)) for row in _rows(folder)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["view"] = table["view"].astype("Int64")
    table["value"] = table["value"].astype("float64")
    order = ["prompt", "method", "seed", "job", "scorer", "view"]
    return table.sort_values(order, kind="stable", na_position="last").reset_index(drop=True)


def read_result(folder: Path) -> tuple[JobSpec, Manifest | None]:
    """A job and how it ended, None when it has not; CorruptResult when the two do not belong together."""
    spec, manifest = read_job(folder), read_manifest(folder)
    if manifest and (manifest.job, manifest.protocol) != (spec.id, spec.protocol.hash):
        raise CorruptResult(f"{folder}: the manifest is that of another job", "run the same command again")
    return spec, manifest


def read_scores(folder: Path, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The verified scores of a finished job: scorer id to sha256, higher_is_better and values per view."""
    if wrong := result_problems(folder, manifest, [SCORES]):
        raise CorruptResult(f"{folder / SCORES} {wrong[SCORES]}", "run the same command again: it is redone")
    return read_json(folder / SCORES) or {} if SCORES in manifest.files else {}


def _rows(folder: Path) -> Iterator[tuple[Any, ...]]:
    if not (folder / "job.json").exists() and not (folder / "manifest.json").exists():
        return  # claimed, but nothing written yet
    spec, manifest = read_result(folder)
    start = (spec.prompt, spec.label, spec.seed, spec.id, spec.protocol.hash)
    status = manifest.status if manifest else UNFINISHED
    scores = read_scores(folder, manifest) if manifest and manifest.status == "finished" else {}
    if not scores:
        yield (*start, None, None, None, status)
    for scorer, entry in scores.items():
        for view, value in enumerate(entry["values"]):
            yield (*start, scorer, view, value, status)
