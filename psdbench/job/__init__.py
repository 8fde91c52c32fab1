"""A job: its stages, each done once, and the manifest that makes it count.

    optimize (asset, trace, cost) -> render (renders/, turntable) -> score (scores.json) -> manifest.json

What the stages do is in `psdbench.job.stages`; a job of foreign renders has no first one.

A stage is skipped when all its files verify; a file that does not verify is quarantined and its stage and the
later ones are done again. Metrics are not part of a job's identity: a new one only repeats the score stage.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from psdbench import registry
from psdbench.config import JobSpec, LoraRef, PriorRef
from psdbench.errors import Diverged, EnvironmentProblem, Interrupted, PsdbenchError
from psdbench.job.stages import (
    OPTIMIZE,
    SCORE,
    STAGE_ORDER,
    STAGES,
    look_together,
    outdated,
    score,
    score_snapshots,
    stage_order,
    stored_views,
)
from psdbench.scorers import load_scorer
from psdbench.store import atomic
from psdbench.store.log import log
from psdbench.store.manifest import FileRecord, Manifest, Status, record, write_manifest, write_stages
from psdbench.store.recover import recover
from psdbench.store.run import claim

if TYPE_CHECKING:
    from psdbench.priors import Prior
    from psdbench.scorers import Scorer
    from psdbench.scorers.asset import AssetViews


class Event(NamedTuple):
    """What happens while jobs run: one was settled before, or starts, steps, ends; or damage is noted."""

    kind: Literal["settled", "start", "step", "end", "note"]
    job: str
    """its folder's name"""
    step: int = 0
    """steps done"""
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
    snapshots: int = 0
    """pictures of the asset on its way"""


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

    def step(self, job: str, done: int, expected: int) -> None:
        """Report that a job has done so many of so many steps."""
        self.report(Event("step", job, done, expected))

    def note(self, job: str, text: str) -> None:
        """Report what somebody should know of a job."""
        self.report(Event("note", job, text=f"{job}: {text}"))


@dataclass
class Models:
    """The prior and the scorers of a process, each loaded once."""

    device: str = "cpu"
    company: int = 1
    """jobs that are optimised in lockstep"""
    seat: Callable[[Prior], Prior] = lambda prior: prior
    """what a job is given of a prior that it shares with the others"""
    _priors: dict[str, Prior] = field(default_factory=dict)
    _scorers: dict[str, Scorer] = field(default_factory=dict)

    def prior(self, ref: PriorRef, lora: LoraRef | None = None) -> Prior:
        """The prior of a protocol, with the LoRA of a job."""
        key = ref.sha256 + (lora.sha256 if lora else "")
        if key not in self._priors:
            self._priors[key] = registry.load_prior(ref, self.device, lora)
        return self.seat(self._priors[key])

    def scorer(self, full_id: str) -> Scorer:
        """A scorer; its weights are read on first use."""
        if full_id not in self._scorers:
            self._scorers[full_id] = load_scorer(full_id, self.device)
        return self._scorers[full_id]


@dataclass(eq=False)
class _Attempt:
    """A job that this process has claimed, on its way to its end."""

    task: Task
    files: dict[str, FileRecord]
    stages: list[str]
    """to be done"""
    outcome: Outcome | None = None
    views: AssetViews | None = None
    """its renders, once they are stored"""

    @contextmanager
    def own_risk(self) -> Iterator[None]:
        """What goes wrong with the job itself within the block is its outcome; what concerns all is raised."""
        try:
            yield
        except Diverged as error:
            self.end("diverged", error.reason, error.step)
        except (Interrupted, EnvironmentProblem) as error:
            with contextlib.suppress(EnvironmentProblem):  # a full disk has no room for this line, either
                log(self.task.folder, str(error))
            raise
        except Exception as error:  # a job's own failure is its result; the others go on
            log(self.task.folder, traceback.format_exc())
            remedy = f": {error.remedy}" if isinstance(error, PsdbenchError) and error.remedy else ""
            self.end("failed", f"{type(error).__name__}: {error}{remedy}")

    def done(self, stage: str, made: Iterable[str]) -> None:
        """Keep the files that a stage has made."""
        self.files.update(record(self.task.folder, made, stage))
        write_stages(self.task.folder, self.task.spec.id, self.files)
        log(self.task.folder, f"{stage} done")

    def end(self, status: Status, reason: str = "", step: int | None = None) -> None:
        """Commit the job."""
        _commit(self.task, status, self.files, reason, step)
        self.outcome = Outcome(self.task.folder.name, status, True, reason, step)


def execute(tasks: Sequence[Task], models: Models, watch: Watch) -> list[Outcome]:
    """Bring jobs to their end, from wherever they are; outcomes in order, whatever goes wrong inside a job.

    Several are optimised in lockstep, and their renders seen by the metrics together. No number depends on which
    jobs these are, but for the rounding of a matrix product of another size (1e-6).
    Raises Interrupted when a stop is wished, EnvironmentProblem when the disk or the weights fail.
    """
    with ExitStack() as claims:
        begun = [_begin(task, claims, models, watch) for task in tasks]
        attempts = [each for each in begun if isinstance(each, _Attempt)]
        _optimize_together([each for each in attempts if OPTIMIZE in each.stages], models, watch)
        for attempt in attempts:
            with attempt.own_risk():
                _make_renders(attempt, models, watch)
        seen = [(each.task, each.views) for each in attempts if each.views is not None]
        look_together(seen, models, watch)
        for attempt in attempts:
            if attempt.outcome is None:
                with attempt.own_risk():
                    if attempt.views is not None:
                        made = score(attempt.task, attempt.views, models, watch)
                        attempt.done(SCORE, [*made, *score_snapshots(attempt.task, models, watch)])
                    attempt.end("finished")
            if attempt.outcome and attempt.outcome.status == "finished":
                _tidy(attempt.task)
        return [_outcome(each) for each in begun]


def _begin(task: Task, claims: ExitStack, models: Models, watch: Watch) -> _Attempt | Outcome:
    """A claimed job with something to do, or the outcome of one without, or of another process's."""
    if not claims.enter_context(claim(task.folder)):
        return Outcome(task.folder.name, "busy")
    atomic.sweep(task.folder, "**/")
    files, stages, settled = _inspect(task, models, watch)
    if settled:
        return settled
    watch.report(Event("start", task.folder.name))
    return _Attempt(task, files, stages)


def _optimize_together(attempts: Sequence[_Attempt], models: Models, watch: Watch) -> None:
    """Do the first stage of several jobs in lockstep; it stays to be done where a job needs the prior for itself."""
    if len(attempts) < 2:
        return
    from psdbench.optimizer.lockstep import Lockstep, OwnPriorNeeded

    lockstep = Lockstep()
    shared = replace(models, company=len(attempts), seat=lockstep.seat)

    def optimize(attempt: _Attempt) -> None:
        with attempt.own_risk():
            try:
                attempt.done(OPTIMIZE, STAGES[OPTIMIZE](attempt.task, shared, watch))
            except OwnPriorNeeded:
                return
            attempt.stages.remove(OPTIMIZE)

    lockstep.run([partial(optimize, attempt) for attempt in attempts])


def _make_renders(attempt: _Attempt, models: Models, watch: Watch) -> None:
    """All stages before the scores, and the renders that are to be scored; nothing of a job that has ended."""
    for stage in attempt.stages if attempt.outcome is None else ():
        watch.check()
        if stage == SCORE:
            attempt.views = stored_views(attempt.task)
        else:
            attempt.done(stage, STAGES[stage](attempt.task, models, watch))


def _outcome(each: _Attempt | Outcome) -> Outcome:
    if isinstance(each, Outcome):
        return each
    assert each.outcome is not None  # every attempt ends, or an exception has left
    return each.outcome


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


def _stages_to_do(task: Task, files: dict[str, FileRecord], models: Models) -> list[str]:
    order, complete = stage_order(task.spec), {entry.stage for entry in files.values()}
    first = next((stage for stage in order if stage not in complete), "")
    first = first or outdated(task, files, models)
    return list(order[order.index(first) :]) if first else []


def _commit(
    task: Task, status: Status, files: dict[str, FileRecord], reason: str = "", step: int | None = None
) -> None:
    manifest = Manifest(status, task.spec.id, task.spec.protocol.hash, files, reason, step)
    write_manifest(task.folder, manifest)
    log(task.folder, f"{status} {reason}".rstrip())


def _tidy(task: Task) -> None:
    """A finished job needs no checkpoint; the last one is kept on request."""
    checkpoints = sorted(task.folder.glob("checkpoint-*.safetensors"), reverse=True)
    for path in checkpoints[1 if task.keep_checkpoints else 0 :]:
        path.unlink(missing_ok=True)
