"""`psdbench score`: more metrics on the stored renders of a run; nothing is optimised or rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from psdbench.cli import options as o
from psdbench.cli.output import say, show_error

if TYPE_CHECKING:
    from psdbench.job import Models, Outcome, Task, Watch


def score(
    run: Annotated[Path, typer.Argument(help="A run folder, results/NAME.", show_default=False)],
    metrics: o.Metrics = None,
    device: o.Device = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    """Score the stored renders of a run's finished jobs with the given metrics, or with all for its prior."""
    from psdbench.cli.run import summarise
    from psdbench.errors import Interrupted
    from psdbench.job import Models, Watch
    from psdbench.launch.notes import quiet_libraries
    from psdbench.launch.progress import make_display
    from psdbench.launch.stop import STOPPING, StopRequest
    from psdbench.plan import device_of
    from psdbench.registry import split_names
    from psdbench.settings import RunConfig

    quiet_libraries()
    models = Models(device_of(RunConfig(device=device or "auto")))
    tasks, damaged = finished_tasks(run, split_names(metrics or []))
    display = make_display(len(tasks), quiet)
    try:
        with StopRequest(message=STOPPING) as stop:
            watch = Watch(display.show, lambda: stop.number or 0)
            outcomes = [_score(task, models, watch) for task in tasks]
    except Interrupted as error:
        show_error(error)
        return error.exit_code
    finally:
        display.close()
    return summarise(run, outcomes, json) or damaged


def finished_tasks(run: Path, metrics: list[str]) -> tuple[list[Task], int]:
    """A task per finished job whose renders verify, and exit code 5 if there are damaged ones, else 0."""
    from psdbench import registry
    from psdbench.errors import CorruptResult, UsageError
    from psdbench.job import Task
    from psdbench.store.manifest import problems
    from psdbench.store.run import existing_run, job_folders
    from psdbench.store.table import read_result

    tasks, code = [], 0
    for folder in job_folders(existing_run(run)):
        try:
            spec, manifest = read_result(folder)
        except CorruptResult as error:
            show_error(error)
            code = error.exit_code
            continue
        if not manifest or manifest.status != "finished":
            continue
        if wrong := problems(folder, manifest.files):
            say(f"error: {folder}: {', '.join(f'{name} {what}' for name, what in wrong.items())}")
            say("  remedy: run the same psdbench run command again: it is redone")
            code = CorruptResult.exit_code
            continue
        family = spec.protocol.prior.name
        wanted = [registry.metric_id(name, family) for name in metrics] or registry.default_metrics(family)
        tasks.append(Task(spec, folder, tuple(wanted), keep_checkpoints=True))
    if not tasks and not code:
        raise UsageError(f"{run} has no finished jobs", "finish it with psdbench run")
    return tasks, code


def _score(task: Task, models: Models, watch: Watch) -> Outcome:
    from psdbench.job import Event, execute

    watch.check()
    outcome = execute(task, models, watch)
    watch.report(Event("end", outcome.job, status=outcome.status, text=outcome.reason))
    return outcome
