"""`psdbench run`: plan, execute, say how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from psdbench.cli import options as o
from psdbench.cli.output import print_json, say, show_error

if TYPE_CHECKING:
    from pathlib import Path

    from psdbench.job import Event, Outcome
    from psdbench.plan import Plan
    from psdbench.settings import RunConfig


def run(
    methods: o.Methods = None,
    prompts: o.Prompts = None,
    seeds: o.Seeds = None,
    prior: o.Prior = None,
    representation: o.Representation = None,
    init: o.Init = None,
    steps: o.Steps = None,
    budget: o.Budget = None,
    grad_norm: o.GradNorm = None,
    reward: o.Reward = None,
    metrics: o.Metrics = None,
    negative_prompt: o.NegativePrompt = None,
    set_: o.Set = None,
    config: o.Config = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    workers: o.Workers = None,
    pack: o.Pack = None,
    memory: o.Memory = None,
    launcher: o.Launcher = None,
    slurm: o.Slurm = None,
    ray: o.Ray = None,
    max_time: o.MaxTime = None,
    track: o.Track = None,
    keep_checkpoints: o.KeepCheckpoints = None,
    snapshots: o.Snapshots = None,
    plugin: o.Plugin = None,
    out: o.Out = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    """Distil every prompt with every method and seed, score the renders. The same command again continues.

    Example:  psdbench run --methods psd,sds --prompts prompts/shapes.txt --seeds 3
    """
    settings = o.gather(locals())
    from psdbench.errors import Interrupted
    from psdbench.plan import make_plan

    plan = make_plan(settings)
    try:
        outcomes = execute_plan(plan, settings, quiet)
    except Interrupted as error:
        show_error(error)
        return error.exit_code
    return summarise(plan.out, outcomes, json)


def execute_plan(plan: Plan, settings: RunConfig, quiet: bool) -> list[Outcome]:
    """Run a plan's jobs in its folder with progress on stderr."""
    from psdbench.job import Models, Task
    from psdbench.launch.launchers import launch
    from psdbench.launch.progress import make_display
    from psdbench.plan.preflight import look_for_room
    from psdbench.store.run import job_folder, open_run, write_run
    from psdbench.validity import check_metrics

    room = look_for_room(plan, settings)
    room.check()
    open_run(plan.out)
    write_run(plan.out, run_facts(plan, settings))
    for note in () if quiet else (*plan.notes, *other_protocols(plan)):
        say(f"note: {note}")
    tasks = [
        Task(
            spec,
            job_folder(plan.out, spec),
            plan.metrics,
            settings.keep_checkpoints,
            settings.snapshots,
        )
        for spec in plan.jobs
    ]
    display = make_display(tasks, quiet)
    try:
        with mirrored(display.show, settings.track, plan.out) as report:
            outcomes = launch(tasks, room.settled(settings), plan.out, plan.protocol.device, report)
    finally:
        display.close()
    check_metrics(plan.out, plan.metrics, Models(plan.protocol.device).scorer)
    return outcomes


@contextmanager
def mirrored(
    show: Callable[[Event], None], trackers: Sequence[str], out: Path
) -> Iterator[Callable[[Event], None]]:
    """What to report events to: the display, and the mirrors that were asked for."""
    if not trackers:
        yield show
        return
    from psdbench.tracking import Mirror

    with ExitStack() as stack:
        mirrors = [stack.enter_context(Mirror(tracker, out)) for tracker in trackers]

        def report(event: Event) -> None:
            show(event)
            for mirror in mirrors:
                mirror.tell(event)

        yield report


def run_facts(plan: Plan, settings: RunConfig) -> dict[str, Any]:
    """run.json: the options (never the raw command line, nor a cluster's account or address), versions, machine."""
    import os
    import platform
    from importlib.metadata import version
    from importlib.util import find_spec

    from psdbench.config import stored

    options = {name: value for name, value in stored(settings).items() if name not in ("slurm", "ray")}
    packages = ["psdbench", "torch", "diffusers", "transformers", "peft", "numpy"]
    packages += [name for name in ("gsplat",) if find_spec(name)]  # draws gaussians on CUDA where it is there
    return {
        "options": options,
        "protocol": plan.protocol.hash,
        "metrics": list(plan.metrics),
        "jobs": [spec.folder_name for spec in plan.jobs],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def other_protocols(plan: Plan) -> list[str]:
    """A note when the folder already holds jobs that these cannot be compared with."""
    from psdbench.errors import CorruptResult
    from psdbench.store.run import job_folders, read_job

    others = 0
    for folder in job_folders(plan.out):
        try:
            others += read_job(folder).protocol.hash != plan.protocol.hash
        except CorruptResult:
            continue  # found and reported when its turn comes
    advice = "no table will hold both: choose another --out"
    return [f"{plan.out} has {others} jobs of another protocol; {advice}"] if others else []


def summarise(out: Path, outcomes: Sequence[Outcome], json: bool) -> int:
    """Say how many jobs ended how; 0 when all finished, 3 when some failed or diverged."""
    from collections import Counter

    from psdbench.errors import SOME_FAILED

    counts = Counter(outcome.status for outcome in outcomes)
    code = 0 if counts["finished"] == len(outcomes) else SOME_FAILED
    if json:
        jobs = [
            {"job": o.job, "status": o.status, "fresh": o.fresh, "reason": o.reason, "step": o.step}
            for o in sorted(outcomes, key=lambda outcome: outcome.job)
        ]
        print_json({"run": str(out), "counts": dict(counts), "jobs": jobs, "exit_code": code})
        return code
    for outcome in outcomes:
        if outcome.status != "finished":
            at = f" at step {outcome.step}" if outcome.step is not None else ""
            say(f"{outcome.job}: {outcome.status}{at}: {outcome.reason}")
    say(f"{counts['finished']} of {len(outcomes)} jobs finished; next: psdbench report {out}")
    print(out)
    return code
