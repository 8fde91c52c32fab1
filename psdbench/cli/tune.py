"""`psdbench tune`: search the parameters of methods on prompts that are not reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psdbench.cli import options as o
from psdbench.cli.output import duration, print_json, say, show_error

if TYPE_CHECKING:
    from psdbench.job import Task
    from psdbench.settings import RunConfig
    from psdbench.tuning.search import Tuning


def tune(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the tuning.", envvar="PSDBENCH_TUNE_OUT")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "--methods",
            "-m",
            help="Methods to tune, each with as many trials.",
            envvar="PSDBENCH_METHODS",
            show_default=False,
        ),
    ] = None,
    prompts: o.Prompts = None,
    trials: Annotated[
        int,
        typer.Option(help="Trials of each method, the first with its defaults.", envvar="PSDBENCH_TRIALS"),
    ] = 20,
    seeds: o.Seeds = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Metric to tune for. [true_preference, on the embedded world]",
            envvar="PSDBENCH_OBJECTIVE",
            show_default=False,
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="What to search, in place of a method's own space, such as psd.preference_scale=0.1..10:log.",
            metavar="METHOD.KEY=LOW..HIGH[:log]|a,b,c",
            envvar="PSDBENCH_SPACE",
            show_default=False,
        ),
    ] = None,
    prior: o.Prior = None,
    representation: o.Representation = None,
    init: o.Init = None,
    steps: o.Steps = None,
    budget: o.Budget = None,
    grad_norm: o.GradNorm = None,
    reward: o.Reward = None,
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
    plugin: o.Plugin = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    """Search the parameters of methods, each trial a run. The same command again continues.

    Example:  psdbench tune --method psd --prompts prompts/shapes-tuning.txt --seeds 1 --out results/tuned

    --set fixes a parameter, --config moves the start. Prints the file to pass to psdbench run --config.
    """
    given = dict(locals())
    options = {
        "methods": given.pop("method"),
        "metrics": [objective] if objective else None,
        "out": str(given.pop("out")),
    }
    for name in ("trials", "objective", "space"):
        del given[name]
    settings = o.gather(given | options)
    from psdbench.errors import Interrupted
    from psdbench.settings import split_setting
    from psdbench.tuning.search import make_tuning
    from psdbench.tuning.tpe import load_optuna

    load_optuna()
    fixed = [split_setting(text)[:2] for text in set_ or ()]
    tuning = make_tuning(settings, trials, space or (), fixed)
    tell = (lambda text: None) if quiet else say
    _announce(tuning, settings, tell)
    try:
        tuning.run(_executor(tuning, settings, quiet), tell)
    except Interrupted as error:
        show_error(error)
        return error.exit_code
    return _summarise(tuning, json)


def _announce(tuning: Tuning, settings: RunConfig, tell: Callable[[str], None]) -> None:
    """How much work this is, and what else should be known."""
    from psdbench.plan.forecast import forecast
    from psdbench.plan.preflight import look_for_room
    from psdbench.report.text import count

    plan, objective = tuning.plan, tuning.setup.objective
    room = look_for_room(plan, settings)
    room.check()
    seconds = forecast(plan.jobs, plan.out, room.workers).seconds
    about = f", about {duration(seconds * tuning.count)}" if seconds else ""
    for note in plan.notes:
        tell(f"note: {note}")
    tell(f"note: at most {count(tuning.count, 'trial')} of {count(len(plan.jobs), 'job')}{about}")
    for name, space in tuning.spaces.items():
        searched = (f"{key} in {dimension}" for key, dimension in space.items())
        tell(f"note: searched of {name}: {', '.join(searched)}")
    if objective == plan.protocol.reward:
        tell(f"note: {objective.id} is objective and reward at once: what hacks it wins")


def _executor(tuning: Tuning, settings: RunConfig, quiet: bool) -> Callable[[list[Task]], Any]:
    """What brings the jobs of a round to their end, with progress on stderr and run.json beside them."""
    import signal
    import time

    from psdbench.cli.run import run_facts
    from psdbench.errors import Interrupted
    from psdbench.launch.launchers import launch
    from psdbench.launch.options import parse_time
    from psdbench.launch.progress import make_display
    from psdbench.store.run import write_run

    deadline = time.monotonic() + parse_time(settings.max_time) if settings.max_time else None

    def execute(tasks: list[Task]) -> Any:
        seconds = deadline - time.monotonic() if deadline is not None else None
        if seconds is not None and seconds <= 0:
            raise Interrupted(signal.SIGALRM)
        write_run(tuning.plan.out, run_facts(tuning.plan, settings))
        display = make_display(tasks, quiet)
        try:
            plan = tuning.plan
            return launch(tasks, settings, plan.out, plan.protocol.device, display.show, seconds)
        finally:
            display.close()

    return execute


def _summarise(tuning: Tuning, json: bool) -> int:
    """Write and tell the results; 0 when every method has a best trial, else 3."""
    from psdbench.errors import SOME_FAILED
    from psdbench.tuning.results import BEST, sentence, write_results
    from psdbench.tuning.search import read_tuning

    write_results(tuning)
    folder, setup = tuning.plan.out, tuning.setup
    for name, study in tuning.studies.items():
        say(sentence(name, study, setup))
    if json:
        print_json(read_tuning(folder))
    else:
        say(f"next: psdbench run --config {folder / BEST} …, on other prompts")
        print(folder / BEST)
    found = all(study.best(setup.higher_is_better) for study in tuning.studies.values())
    return 0 if found else SOME_FAILED
