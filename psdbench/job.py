"""A job: its stages, each done once, and the manifest that makes it count.

    optimize (asset, trace, cost) -> render (renders/, turntable) -> score (scores.json) -> manifest.json

A stage is skipped when all its files verify; a file that does not verify is quarantined and its stage and the
later ones are done again. Metrics are not part of a job's identity: a new one only repeats the score stage.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple

from psdbench import registry
from psdbench.budget import Budget
from psdbench.config import JobSpec, LoraRef, PriorRef
from psdbench.errors import Diverged, EnvironmentProblem, Interrupted
from psdbench.store import atomic
from psdbench.store.manifest import (
    FileRecord,
    Manifest,
    Status,
    record,
    write_manifest,
    write_stages,
)
from psdbench.store.recover import recover
from psdbench.store.run import claim
from psdbench.store.sealed import read_json
from psdbench.store.table import SCORES

if TYPE_CHECKING:
    from psdbench.priors import Prior
    from psdbench.scorers import Scorer

STAGE_ORDER = ("optimize", "render", "score")
COST, LOG = "cost.json", "log.txt"


class Event(NamedTuple):
    """What happens while jobs run: one starts, steps, ends; some were settled before; or damage is noted."""

    kind: Literal["settled", "start", "step", "end", "note"]
    job: str
    """its folder's name"""
    step: int = 0
    """steps done; of `settled`, the number of jobs"""
    steps: int = 0
    """steps expected in all, 0 while that is not known"""
    status: str = ""
    text: str = ""


@dataclass(frozen=True)
class Task:
    """A job with the folder and the metrics of this run."""

    spec: JobSpec
    folder: Path
    metrics: tuple[str, ...]
    keep_checkpoints: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a task ended; `busy`: another process holds it. `fresh` is False when nothing was left to do."""

    job: str
    status: Literal["finished", "diverged", "failed", "busy"]
    fresh: bool = True
    reason: str = ""
    step: int | None = None


@dataclass
class Watch:
    """Who is told what happens, and who is asked whether to stop (a signal's number, 0 for no)."""

    report: Callable[[Event], None] = lambda event: None
    should_stop: Callable[[], int] = lambda: 0

    def check(self) -> None:
        """Raise Interrupted when a stop is wished."""
        if number := self.should_stop():
            raise Interrupted(number)


@dataclass
class Models:
    """The prior and the scorers of a process, each loaded once."""

    device: str = "cpu"
    _priors: dict[str, Prior] = field(default_factory=dict)
    _scorers: dict[str, Scorer] = field(default_factory=dict)

    def prior(self, ref: PriorRef, lora: LoraRef | None = None) -> Prior:
        """The prior of a protocol, with the LoRA of a job."""
        key = ref.sha256 + (lora.sha256 if lora else "")
        if key not in self._priors:
            self._priors[key] = registry.load_prior(ref, self.device, lora)
        return self._priors[key]

    def scorer(self, full_id: str) -> Scorer:
        """A scorer; its weights are read on first use."""
        if full_id not in self._scorers:
            self._scorers[full_id] = registry.make_scorer(full_id, self.device)
        return self._scorers[full_id]


def execute(task: Task, models: Models, watch: Watch) -> Outcome:
    """Bring a job to its end, from wherever it is; never raises for what goes wrong inside the job itself.

    Raises Interrupted when a stop is wished, EnvironmentProblem when the disk or the weights fail.
    """
    name = task.folder.name
    with claim(task.folder) as mine:
        if not mine:
            return Outcome(name, "busy")
        atomic.sweep(task.folder, "**/")
        files, stages, settled = _inspect(task, models, watch)
        if settled:
            return settled
        watch.report(Event("start", name))
        return _work(task, models, watch, files, stages)


def settle(task: Task, models: Models, watch: Watch) -> Outcome | None:
    """The outcome of a job with nothing left to do, None for the others. Loads no model."""
    if not task.folder.is_dir():
        return None
    with claim(task.folder) as mine:
        return _inspect(task, models, watch)[2] if mine else None


def _inspect(
    task: Task, models: Models, watch: Watch
) -> tuple[dict[str, FileRecord], list[str], Outcome | None]:
    """The files to build on, the stages to do, and the outcome when there are none."""
    name = task.folder.name

    def note(text: str) -> None:
        watch.report(Event("note", name, text=text))

    files, manifest = recover(task.folder, task.spec, STAGE_ORDER, note)
    if manifest and manifest.status == "diverged":
        return files, [], Outcome(name, "diverged", False, manifest.reason, manifest.step)
    stages = _stages_to_do(task, files, models)
    if not stages and manifest and manifest.status == "finished":
        _tidy(task)
        return files, [], Outcome(name, "finished", False)
    return files, stages, None


def commit_lost(task: Task, reason: str) -> Outcome:
    """Mark a job as failed whose worker process died again and again."""
    with claim(task.folder) as mine:
        if mine:
            _commit(task, "failed", {}, reason)
    return Outcome(task.folder.name, "failed", True, reason)


def _work(
    task: Task, models: Models, watch: Watch, files: dict[str, FileRecord], stages: list[str]
) -> Outcome:
    name = task.folder.name
    try:
        for stage in stages:
            watch.check()
            made = _STAGES[stage](task, models, watch)
            files.update(record(task.folder, made, stage))
            write_stages(task.folder, task.spec.id, files)
            _log(task.folder, f"{stage} done")
        _commit(task, "finished", files)
    except Diverged as error:
        _commit(task, "diverged", files, error.reason, error.step)
        return Outcome(name, "diverged", True, error.reason, error.step)
    except (Interrupted, EnvironmentProblem) as error:
        with contextlib.suppress(
            EnvironmentProblem
        ):  # the disk that is full has no room for this line, either
            _log(task.folder, str(error))
        raise
    except Exception as error:  # a job's own failure is its result; the others go on
        _log(task.folder, traceback.format_exc())
        reason = f"{type(error).__name__}: {error}"
        _commit(task, "failed", files, reason)
        return Outcome(name, "failed", True, reason)
    _tidy(task)
    return Outcome(name, "finished")


def _stages_to_do(task: Task, files: dict[str, FileRecord], models: Models) -> list[str]:
    complete = {entry.stage for entry in files.values()}
    missing = next((i for i, stage in enumerate(STAGE_ORDER) if stage not in complete), len(STAGE_ORDER))
    if missing == len(STAGE_ORDER) and unscored(task.folder, task.metrics, models):
        missing = STAGE_ORDER.index("score")
    return list(STAGE_ORDER[missing:])


def unscored(folder: Path, metrics: Iterable[str], models: Models) -> list[str]:
    """The metrics whose scores are not there, or were made with other weights."""
    have = read_json(folder / SCORES) or {}
    return [m for m in metrics if have.get(m, {}).get("sha256") != models.scorer(m).sha256]


def _optimize(task: Task, models: Models, watch: Watch) -> Iterable[str]:
    import torch

    from psdbench.optimize import TraceRow, optimize

    spec, name = task.spec, task.folder.name
    budget = Budget.of(spec.protocol.optimize)

    def report(row: TraceRow) -> None:
        watch.report(Event("step", name, row.step + 1, budget.expected_steps(row.step, row.progress)))

    method = registry.planned_method(spec.method, spec.plugin)(**spec.params)
    reward = models.scorer(spec.protocol.reward.id) if spec.protocol.reward else None
    prior = models.prior(spec.protocol.prior, spec.lora)
    result = optimize(spec, prior, method, reward, task.folder, report, watch.should_stop)
    cost = {
        **asdict(result.counters),
        "seconds": result.seconds,
        "seconds_by_part": result.seconds_by_part,
        "steps": len(result.trace),
        "gradient_rms_median": median(row.gradient_rms for row in result.trace),
        "peak_memory_mb": peak_memory_mb(models.device),
        "threads": torch.get_num_threads(),
    }
    atomic.write_json(task.folder / COST, cost)
    return (*result.files, COST)


def _render(task: Task, models: Models, watch: Watch) -> Iterable[str]:
    from psdbench.evaluate import render_asset

    return render_asset(task.spec, task.folder, models.device)


def _score(task: Task, models: Models, watch: Watch) -> Iterable[str]:
    """Score with the metrics that are missing; the scores that are there already stay."""
    from psdbench.cameras import evaluation_rig
    from psdbench.evaluate import score_renders

    scores = read_json(task.folder / SCORES) or {}
    cameras = evaluation_rig(task.spec.protocol.cameras)
    for name in unscored(task.folder, task.metrics, models):
        watch.check()
        scorer = models.scorer(name)
        values = score_renders(task.folder, [scorer], task.spec.prompt, cameras)[name]
        scores[name] = {
            "sha256": scorer.sha256,
            "higher_is_better": scorer.higher_is_better,
            "values": values,
        }
    atomic.write_json(task.folder / SCORES, scores)
    return [SCORES]


_STAGES: dict[str, Callable[[Task, Models, Watch], Iterable[str]]] = {
    "optimize": _optimize,
    "render": _render,
    "score": _score,
}


def peak_memory_mb(device: str) -> float:
    """The most memory this process has held so far, in MB: on the GPU when it computes there."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated() / 2**20)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _commit(
    task: Task, status: Status, files: dict[str, FileRecord], reason: str = "", step: int | None = None
) -> None:
    manifest = Manifest(status, task.spec.id, task.spec.protocol.hash, files, reason, step)
    write_manifest(task.folder, manifest)
    _log(task.folder, f"{status} {reason}".rstrip())


def _tidy(task: Task) -> None:
    """A finished job needs no checkpoint; the last one is kept on request."""
    checkpoints = sorted(task.folder.glob("checkpoint-*.safetensors"), reverse=True)
    for path in checkpoints[1 if task.keep_checkpoints else 0 :]:
        path.unlink(missing_ok=True)


def _log(folder: Path, text: str) -> None:
    """A line with the time in log.txt: for people only, so it needs no atomic write."""
    atomic.append_line(folder / LOG, f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}")
