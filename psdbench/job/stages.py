"""What the stages of a job do: optimize, render, score; each writes its files and names them.

Which of them a job still needs is asked here too; when they run and what makes them count is in `psdbench.job`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from psdbench import registry
from psdbench.budget import Budget
from psdbench.errors import UsageError
from psdbench.optimizer.snapshots import Snapshots, taken
from psdbench.store import atomic
from psdbench.store.log import log
from psdbench.store.manifest import FileRecord, foretell
from psdbench.store.sealed import read_json
from psdbench.store.table import COST, GEOMETRY, SCORES

if TYPE_CHECKING:
    from psdbench.config import JobSpec
    from psdbench.job import Models, Task, Watch
    from psdbench.scorers.asset import AssetViews

OPTIMIZE, SCORE = "optimize", "score"
STAGE_ORDER = (OPTIMIZE, "render", SCORE)


def stage_order(spec: JobSpec) -> tuple[str, ...]:
    """The stages of a job: renders made elsewhere are taken over instead of being rendered, nothing is optimised."""
    return STAGE_ORDER[1:] if spec.foreign else STAGE_ORDER


def outdated(task: Task, files: dict[str, FileRecord], models: Models) -> str:
    """The stage from which a job with all its files is to be done again, empty when none is.

    Scores are missing, or scores of the geometry, which older versions did not store beside the renders.
    """
    lacking = unscored(task.folder, task.metrics, models)
    if not lacking:
        return SCORE if snapshots_unscored(task, models) else ""
    asks = any(hasattr(models.scorer(name), "score_asset") for name in lacking)
    return "render" if asks and GEOMETRY not in files and not task.spec.foreign else SCORE


def unscored(folder: Path, metrics: Iterable[str], models: Models) -> list[str]:
    """The metrics whose scores are not there, or were made with other weights."""
    have = read_json(folder / SCORES) or {}
    return [m for m in metrics if have.get(m, {}).get("sha256") != models.scorer(m).sha256]


def _optimize(task: Task, models: Models, watch: Watch) -> Iterable[str]:
    import torch

    from psdbench.job.evaluate import draw_snapshot
    from psdbench.optimizer.loop import TraceRow, optimize

    spec, name = task.spec, task.folder.name
    budget = Budget.of(spec.protocol.optimize)

    def report(row: TraceRow) -> None:
        watch.step(name, row.step + 1, budget.expected_steps(row.step, row.progress))

    def note(text: str) -> None:
        log(task.folder, text)
        watch.note(name, text)

    method = registry.planned_method(spec.method, spec.plugin)(**spec.params)
    reward = models.scorer(spec.protocol.reward.id) if spec.protocol.reward else None
    prior = models.prior(spec.protocol.prior, spec.lora)
    shots = Snapshots(task.folder, task.snapshots, draw_snapshot)
    result = optimize(spec, prior, method, reward, task.folder, report, watch.should_stop, shots, note)
    cost = {
        **asdict(result.counters),
        "seconds": result.seconds,
        "seconds_by_part": result.seconds_by_part,
        "steps": len(result.trace),
        "gradient_rms_median": median(row.gradient_rms for row in result.trace),
        "peak_memory_mb": peak_memory_mb(models.device),
        **result.ladder.facts(),
        "threads": torch.get_num_threads(),
        "pack": models.company,
    }
    atomic.write_json(task.folder / COST, cost)
    return (*result.files, COST)


def _render(task: Task, models: Models, watch: Watch) -> Iterable[str]:
    if task.spec.foreign:
        from psdbench.foreign import take_over

        return take_over(task.spec, task.folder)
    from psdbench.job.evaluate import render_asset

    return render_asset(task.spec, task.folder, models.device)


def stored_views(task: Task) -> AssetViews:
    """All that a job stores of how its asset looks; raises CorruptResult for renders that cannot be used."""
    from psdbench.foreign import rig
    from psdbench.job.evaluate import read_asset_views

    return read_asset_views(task.folder, task.spec.prompt, rig(task.spec))


def look_together(jobs: Sequence[tuple[Task, AssetViews]], models: Models, watch: Watch) -> None:
    """Let the networks of the missing scores see the views of several jobs at once; nothing is scored yet.

    What goes wrong with the images, or needs too much memory, goes wrong again where a job looks for itself, and
    is then the outcome of that job alone.
    """
    from psdbench.scorers.asset import eyes
    from psdbench.scorers.eye import look

    alike: dict[tuple[str, ...], list[AssetViews]] = {}
    for task, views in jobs:
        alike.setdefault(tuple(unscored(task.folder, task.metrics, models)), []).append(views)
    for lacking, group in alike.items():
        networks = eyes(map(models.scorer, lacking))
        try:
            look(networks, group, between=watch.check)
        except (UsageError, RuntimeError):
            continue


def score(
    task: Task, views: AssetViews, models: Models, watch: Watch, job: Path | None = None
) -> Iterable[str]:
    """Score with the metrics that are missing; the scores that are there already stay, also if the process dies.

    `job` is the folder of the job where the task's is that of a snapshot.
    """
    from psdbench.scorers.asset import score_views

    scores = read_json(task.folder / SCORES) or {}
    for name in unscored(task.folder, task.metrics, models):
        watch.check()
        scorer = models.scorer(name)
        scores[name] = {
            "sha256": scorer.sha256,
            "higher_is_better": scorer.higher_is_better,
            "values": score_views(scorer, views),
        }
    path, content = task.folder / SCORES, atomic.json_bytes(scores)
    if path.exists():
        folder = job or task.folder
        foretell(folder, task.spec.id, path.relative_to(folder).as_posix(), content, SCORE)
    atomic.write_bytes(path, content)
    return [SCORES]


STAGES: dict[str, Callable[[Task, Models, Watch], Iterable[str]]] = {
    OPTIMIZE: _optimize,
    "render": _render,
}
"""what makes the files of a stage, of one job; the last one, `score`, is done for several jobs together"""


def peak_memory_mb(device: str) -> float:
    """The most memory this process has held so far, in MB: on the GPU when it computes there.

    Read from the kernel's account of this program, for that of `getrusage` begins with what the process held that
    started this one.
    """
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated() / 2**20)
    status = Path("/proc/self/status")
    if status.exists() and (told := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(told[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def snapshots_unscored(task: Task, models: Models) -> bool:
    """Whether a snapshot lacks one of the task's metrics."""
    return any(unscored(path, task.metrics, models) for path in taken(task.folder))


def score_snapshots(task: Task, models: Models, watch: Watch) -> Iterator[str]:
    """Score every snapshot with the metrics that it lacks, as the job itself is scored; the names of the files."""
    for path in taken(task.folder):
        part = replace(task, folder=path)
        if unscored(path, task.metrics, models):
            views = stored_views(part)
            look_together([(part, views)], models, watch)
            score(part, views, models, watch, task.folder)
        if (path / SCORES).exists():
            yield (path / SCORES).relative_to(task.folder).as_posix()
