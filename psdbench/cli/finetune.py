"""`psdbench finetune`: train a LoRA of a prior on a reward, for the baselines that change the prior."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psdbench.cli import options as o
from psdbench.cli.output import duration, print_json, say

if TYPE_CHECKING:
    from psdbench.finetune.run import FinetuneSpec
    from psdbench.finetune.train import Row

LINE_EVERY = 15.0
"""seconds between two lines of progress where there is no terminal"""


def finetune(
    algorithm: Annotated[
        str,
        typer.Option(
            help="draft (reward gradients), dpo (ranked pairs) or ddpo (policy gradient).",
            envvar="PSDBENCH_ALGORITHM",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the LoRA.", envvar="PSDBENCH_FINETUNE_OUT")
    ],
    reward: Annotated[
        str | None,
        typer.Option(help="Scorer to learn from. [hps]", envvar="PSDBENCH_REWARD", show_default=False),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="shapes, or a Stable-Diffusion-format folder. [shapes]",
            envvar="PSDBENCH_PRIOR",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Training steps. [by algorithm]", envvar="PSDBENCH_FINETUNE_STEPS", show_default=False
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompts",
            "-p",
            help="Prompt files to train on, a fifth of them for measuring. [the shapes prior: its own captions]",
            envvar="PSDBENCH_FINETUNE_PROMPTS",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Everything drawn follows from it.", envvar="PSDBENCH_SEED", min=0)
    ] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A parameter of the algorithm, such as draft.last_steps=2.",
            envvar="PSDBENCH_FINETUNE_SET",
            metavar="ALGORITHM.KEY=VALUE",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            help="What reports call it: sds+NAME. [the algorithm]",
            envvar="PSDBENCH_FINETUNE_NAME",
            show_default=False,
        ),
    ] = "",
    device: o.Device = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    """Finetune a prior on a reward; any method then runs on it. The same command again continues.

    Example:  psdbench finetune --algorithm draft --reward hps --prior shapes --out results/draft

    Prints what to pass to psdbench run --prior.
    """
    from psdbench.launch.notes import forwarded_warnings, quiet_libraries
    from psdbench.launch.stop import STOPPING, StopRequest
    from psdbench.launch.threads import set_threads

    quiet_libraries()
    from psdbench.finetune.run import finetune as train
    from psdbench.finetune.run import make_spec
    from psdbench.plan import device_of
    from psdbench.registry import LORA, REWARD, WORLD, split_names
    from psdbench.settings import RunConfig
    from psdbench.strict import build

    base = prior or WORLD
    where = device_of(build(RunConfig, {"device": device or "auto"}, "options"))
    params = _parameters(algorithm, set_ or [], steps)
    sources = split_names(prompts or [])
    set_threads(where)
    spec = make_spec(
        algorithm, reward or REWARD, base, params=params, prompts=sources, seed=seed, device=where, name=name
    )
    progress = Progress(spec, quiet)
    with progress, forwarded_warnings(say), StopRequest(message=STOPPING) as stop:
        facts = train(spec, out, progress.show, lambda: stop.number or 0)
    if json:
        print_json(facts)
        return 0
    if not quiet:
        say(_summary(facts))
        test = WORLD if base == WORLD else "FILE"
        say(f"next: psdbench run --prior {base}{LORA}{out} --methods sds --prompts {test}")
    print(f"{base}{LORA}{out}")
    return 0


def _parameters(algorithm: str, sets: list[str], steps: int | None) -> dict[str, Any]:
    """The parameters given, typed by the algorithm's fields; UsageError for what it does not have."""
    from typing import get_type_hints

    from psdbench.errors import UsageError, unknown
    from psdbench.finetune.run import algorithm_class
    from psdbench.strict import parse

    cls = algorithm_class(algorithm)
    hints = {key: hint for key, hint in get_type_hints(cls).items() if key in cls.__dataclass_fields__}
    given: dict[str, Any] = {} if steps is None else {"steps": steps}
    for text in sets:
        target, equals, value = text.partition("=")
        table, dot, key = target.strip().partition(".")
        if not (equals and dot) or table != algorithm:
            raise UsageError(f"--set '{text}' is not {algorithm}.KEY=VALUE", f"keys: {', '.join(hints)}")
        if key not in hints:
            raise unknown("parameter", key, hints, algorithm)
        given[key] = parse(value.strip(), hints[key], f"{algorithm}.{key}")
    return given


def _summary(facts: dict[str, Any]) -> str:
    """What the finetuning has done to the reward, in a sentence."""
    figures = facts["reward_on_held_out"]
    before, after, gain = (figures[key] for key in ("before", "after", "gain"))
    interval = "" if gain["low"] is None else f" [{gain['low']:+.4g}, {gain['high']:+.4g}]"
    return (
        f"{facts['reward']['id']} on {gain['n']} held-out captions: {before['mean']:.4g} before, "
        f"{after['mean']:.4g} after, {gain['mean']:+.4g}{interval}; {duration(facts['seconds'])}"
    )


class Progress:
    """A bar on a terminal, else now and then a line; loss and reward in both."""

    def __init__(self, spec: FinetuneSpec, quiet: bool) -> None:
        self.title, self.steps, self.quiet = (
            f"{spec.algorithm} on {spec.reward.id}",
            spec.params["steps"],
            quiet,
        )
        self._bar: Any = None
        self._shown = self._began = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Progress:
        import sys

        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.steps)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, row: Row) -> None:
        """A step is done."""
        done, now = row.step + 1, time.monotonic()
        self._first = row.step if self._first is None else self._first
        said = f"{self.title}: loss {row.loss:.4g}, reward {row.reward:.4g}"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=said)
        elif not self.quiet and (now - self._shown > LINE_EVERY or done in (self._first + 1, self.steps)):
            self._shown = now
            left = (now - self._began) / (done - self._first) * (self.steps - done)
            say(f"{said} · step {done}/{self.steps} · {duration(left)} left")
