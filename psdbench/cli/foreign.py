"""What `psdbench score` does with a folder of renders made elsewhere: a run folder with a job for each asset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.cli.output import say

if TYPE_CHECKING:
    from psdbench.foreign.folders import Asset
    from psdbench.foreign.ratings import Ratings
    from psdbench.job import Task

DEFAULT_METRICS = ("coverage", "floaters")
"""those that need no weights, no cameras and no depth"""
NEEDS_OURS = {
    "consistency": "the depth of the views",
    "ground_truth": "the evaluation cameras",
    "outline": "the evaluation cameras",
}


def foreign_tasks(
    folder: Path, run: Path, metrics: Sequence[str], prompts: Path | None, ratings: Path | None, views: int
) -> list[Task]:
    """Find the assets of a folder, make the run folder that holds them; a task for each.

    Raises UsageError for a folder of no known layout, for an asset that is not complete, and for metrics that
    need more than pictures and prompts.
    """
    from psdbench.foreign import foreign_job
    from psdbench.foreign.ratings import read_ratings, write_ratings
    from psdbench.job import Task
    from psdbench.store.run import job_folder, open_run

    wanted = _metrics(metrics)
    rated = read_ratings(ratings) if ratings else None
    assets = _assets(folder, prompts, rated)
    jobs = [foreign_job(asset, views) for asset in assets]
    open_run(run)
    _write_facts(run, folder, assets, wanted)
    if rated:
        write_ratings(run, rated)
    unoriented = sum(job.foreign is not None and not job.foreign.oriented for job in jobs)
    if unoriented:
        say(
            f"note: of {unoriented} of {len(jobs)} assets nobody knows which view is the front: no view words"
        )
    return [Task(job, job_folder(run, job), wanted) for job in jobs]


def _metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The full ids; UsageError for an unknown metric and for one that only our own renders can have."""
    from psdbench.errors import UsageError
    from psdbench.metrics import metric_id, require_weights

    ids = dict.fromkeys(metric_id(name, "") for name in names or DEFAULT_METRICS)
    for name in ids:
        if name in NEEDS_OURS:
            raise UsageError(
                f"metric '{name}' needs {NEEDS_OURS[name]}, which renders made elsewhere do not have",
                f"choose others, such as --metrics {','.join(DEFAULT_METRICS)}",
            )
    require_weights(ids)
    return tuple(ids)


def _assets(folder: Path, prompts: Path | None, rated: Ratings | None) -> list[Asset]:
    """The assets in the folder; of the prompts the file wins that was named."""
    from psdbench.foreign.folders import find_assets, prompt_list

    if prompts is not None:
        return find_assets(folder, prompt_list(prompts))
    return find_assets(folder, rated.prompts if rated else None)


def _write_facts(run: Path, folder: Path, assets: Sequence[Asset], metrics: Sequence[str]) -> None:
    """run.json: for people, where the renders came from."""
    import platform
    from importlib.metadata import version

    from psdbench.store.run import write_run

    content = {
        "foreign": {
            "folder": str(folder.resolve()),
            "layouts": sorted({asset.layout for asset in assets}),
            "assets": len(assets),
        },
        "metrics": list(metrics),
        "versions": {"python": platform.python_version(), "psdbench": version("psdbench")},
    }
    write_run(run, content)
