"""`psdbench score`: metrics on stored renders, of a run or made elsewhere; nothing is optimised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from psdbench.cli import options as o
from psdbench.cli.output import say, show_error

if TYPE_CHECKING:
    from psdbench.config import JobSpec
    from psdbench.job import Task
    from psdbench.settings import RunConfig


def score(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A run, results/NAME, or a folder of renders.", show_default=False
        ),
    ],
    metrics: o.Metrics = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Prompts of renders made elsewhere. [FOLDER/prompts.txt or .json]",
            envvar="PSDBENCH_SCORE_PROMPTS",
            show_default=False,
        ),
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(
            help="What people think of them: a csv as MATE-3D's, model,prompt,Alignment,…",
            envvar="PSDBENCH_RATINGS",
            show_default=False,
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            help="Views of each asset made elsewhere.", envvar="PSDBENCH_SCORE_VIEWS", min=1, max=99
        ),
    ] = 8,
    out: o.Out = None,
    device: o.Device = None,
    workers: o.Workers = None,
    launcher: o.Launcher = None,
    slurm: o.Slurm = None,
    ray: o.Ray = None,
    max_time: o.MaxTime = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    """Score the stored renders of a run's finished jobs with the given metrics, or with all for its prior.

    A folder of renders made elsewhere is taken over into a run of its own, which reports mark "optimizer not
    shared": [METHOD/]PROMPT[/SEED]/*.png with a prompts file, GPTEval3D's methods/METHOD/INDEX/SEED/rgb_*.png,
    MATE-3D's METHOD/PROMPT/rendered_view_*.png with its ratings, or threestudio's trial folders.
    """
    launching = {"device": device, "workers": workers, "launcher": launcher, "slurm": slurm, "ray": ray}
    settings = o.gather({**launching, "max_time": max_time, "config": None, "set_": None})
    from psdbench.launch.notes import quiet_libraries
    from psdbench.registry import split_names

    quiet_libraries()
    names = split_names(metrics or [])
    if (run / "jobs").is_dir():
        _refuse_foreign_options(run, prompts, ratings, out)
        tasks, damaged = finished_tasks(run, names)
    else:
        from psdbench.cli.foreign import foreign_tasks

        folder = run
        run = Path(out) if out else Path("results") / f"{folder.resolve().name}-foreign"
        tasks, damaged = foreign_tasks(folder, run, names, prompts, ratings, views), 0
    return score_tasks(run, tasks, settings, json, quiet) or damaged


def score_tasks(run: Path, tasks: list[Task], settings: RunConfig, json: bool, quiet: bool) -> int:
    """Execute tasks with progress on stderr, try their metrics on the controls; the exit code."""
    from psdbench.cli.run import summarise
    from psdbench.errors import Interrupted
    from psdbench.job import Models
    from psdbench.launch.launchers import launch
    from psdbench.launch.options import parse_time
    from psdbench.launch.progress import make_display
    from psdbench.launch.together import run_together
    from psdbench.plan import device_of
    from psdbench.validity import check_metrics

    models, display = Models(device_of(settings)), make_display(tasks, quiet)
    try:
        if settings.launcher == "local" and settings.workers in (None, 1):
            seconds = parse_time(settings.max_time) if settings.max_time else None
            outcomes = run_together(tasks, models, display.show, seconds)
        else:
            outcomes = launch(tasks, settings, run, models.device, display.show, together=True)
    except Interrupted as error:
        show_error(error)
        return error.exit_code
    finally:
        display.close()
    check_metrics(run, (name for task in tasks for name in task.metrics), models.scorer)
    return summarise(run, outcomes, json)


def finished_tasks(run: Path, metrics: list[str]) -> tuple[list[Task], int]:
    """A task per finished job whose renders verify, and exit code 5 if there are damaged ones, else 0."""
    from psdbench.errors import CorruptResult, UsageError
    from psdbench.job import Task
    from psdbench.metrics import metric_id, require_weights
    from psdbench.store.manifest import result_problems
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
        if wrong := result_problems(folder, manifest):
            say(f"error: {folder}: {', '.join(f'{name} {what}' for name, what in wrong.items())}")
            say("  remedy: run the same psdbench run command again: it is redone")
            code = CorruptResult.exit_code
            continue
        family = spec.protocol.prior.name
        wanted = [metric_id(name, family) for name in metrics] or _default_metrics(spec)
        require_weights(wanted)
        tasks.append(Task(spec, folder, tuple(wanted), keep_checkpoints=True))
    if not tasks and not code:
        raise UsageError(f"{run} has no finished jobs", "finish it with psdbench run")
    return tasks, code


def _default_metrics(spec: JobSpec) -> list[str]:
    """All metrics for the prior; of renders made elsewhere those that need nothing but pictures."""
    from psdbench.cli.foreign import DEFAULT_METRICS
    from psdbench.metrics import default_metrics

    return list(DEFAULT_METRICS) if spec.foreign else default_metrics(spec.protocol.prior.name)


def _refuse_foreign_options(run: Path, prompts: Path | None, ratings: Path | None, out: str | None) -> None:
    from psdbench.errors import UsageError

    given = {"--prompts": prompts, "--ratings": ratings, "--out": out}
    if used := [flag for flag, value in given.items() if value is not None]:
        raise UsageError(
            f"{run} is a run folder, and {', '.join(used)} is for renders made elsewhere",
            f"leave out {used[0]}",
        )
