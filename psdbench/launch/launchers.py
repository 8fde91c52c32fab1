"""Which launcher brings the jobs of a plan to their end. All take the same tasks and leave the same files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psdbench.job import Outcome, Task
from psdbench.launch.local import Report, run_jobs
from psdbench.launch.options import RayOptions, SlurmOptions, launch_options, parse_time
from psdbench.launch.threads import default_workers
from psdbench.settings import RunConfig


def launch(
    tasks: Sequence[Task],
    settings: RunConfig,
    out: Path,
    device: str,
    report: Report,
    seconds: float | None = None,
    together: bool = False,
) -> list[Outcome]:
    """Execute tasks as the settings say; the outcome of each.

    `seconds` is what is left of --max-time, where that is not all; `together` says that only scores are missing,
    for which an array task of SLURM takes many jobs at a time. Raises Interrupted when a signal or the time
    ended it, and EnvironmentProblem.
    """
    options = launch_options(settings.launcher, settings.slurm, settings.ray)
    if seconds is None and settings.max_time:
        seconds = parse_time(settings.max_time)
    workers = settings.workers or default_workers(device)
    if isinstance(options, SlurmOptions):
        from psdbench.launch.slurm import SlurmRun

        array = SlurmRun(out, options, settings.workers, device, together, settings.pack)
        return array.run(tasks, report, seconds)
    if isinstance(options, RayOptions):
        from psdbench.launch.ray import RayRun

        return RayRun(options, workers, device, settings.pack).run(tasks, report, seconds)
    return run_jobs(tasks, workers, device, report, seconds, settings.pack)
