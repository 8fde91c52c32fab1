"""The options that `run` and `plan` share; each has a PSDBENCH_* variable, lists take commas and repeats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from psdbench.settings import RunConfig


def _option(flag: str, text: str, *more: str, **kwargs: Any) -> Any:
    variable = "PSDBENCH_" + flag.removeprefix("--").replace("-", "_").upper()
    return typer.Option(flag, *more, help=text, envvar=variable, show_default=False, **kwargs)


Methods = Annotated[list[str] | None, _option("--methods", "Methods to compare, such as psd,sds.", "-m")]
Prompts = Annotated[
    list[str] | None, _option("--prompts", "Prompt files, names of shipped sets, or - for stdin.", "-p")
]
Seeds = Annotated[str | None, _option("--seeds", "How many seeds (3: 0, 1, 2) or a range (5-7). [3]")]
Prior = Annotated[
    str | None,
    _option(
        "--prior",
        "shapes, a folder in Stable Diffusion's layout, or a hub id OWNER/NAME that is in the local cache; "
        "finetuned: PRIOR+lora:FOLDER. [shapes]",
    ),
]
Representation = Annotated[str | None, _option("--representation", "What is optimised. [voxels]")]
Init = Annotated[
    str | None, _option("--init", "GLB or PLY file (mesh, points or splats) to start from.", metavar="FILE")
]
Steps = Annotated[int | None, _option("--steps", "Optimisation steps of a job. [300]")]
Budget = Annotated[
    str | None,
    _option(
        "--budget",
        "Equal compute in place of equal steps: denoiser forwards of a job, or seconds, "
        "which no two runs repeat exactly.",
        metavar="nfe=N|seconds=S",
    ),
]
GradNorm = Annotated[
    str | None,
    _option(
        "--grad-norm",
        "Scale of the methods' gradients: none, unit (RMS 1) or clip (at optimize.grad_clip). [none]",
    ),
]
Reward = Annotated[str | None, _option("--reward", "Scorer that steers methods such as psd; or none. [hps]")]
Metrics = Annotated[list[str] | None, _option("--metrics", "Scorers of the renders. [all for the prior]")]
NegativePrompt = Annotated[
    str | None, _option("--negative-prompt", "Lower branch of classifier-free guidance. [empty]")
]
Set = Annotated[
    list[str] | None,
    _option("--set", "A parameter, such as psd.preference_scale=0.5.", metavar="TABLE.KEY=VALUE"),
]
Config = Annotated[
    Path | None, _option("--config", "TOML file with these options and parameter tables.", "-c")
]
Device = Annotated[str | None, _option("--device", "auto, cpu or cuda. [auto]")]
Dtype = Annotated[
    str | None, _option("--dtype", "Number format of the prior: float32, float16 or bfloat16. [float32]")
]
Workers = Annotated[int | None, _option("--workers", "Worker processes. [measured choice]", "-j")]
Pack = Annotated[
    int | None,
    _option(
        "--pack",
        "Jobs that a worker optimises in lockstep, each network asked once for all of them, for GPUs that one view "
        "does not fill: more memory, the same numbers to rounding. [1]",
    ),
]
Memory = Annotated[
    str | None,
    _option(
        "--memory",
        "Memory that the workers may take together, such as 4GB; a run that needs more is refused. [the device's]",
        metavar="SIZE",
    ),
]
Launcher = Annotated[str | None, _option("--launcher", "Where jobs run: local, slurm or ray. [local]")]
Slurm = Annotated[
    list[str] | None,
    _option(
        "--slurm", "Options of --launcher slurm: partition=gpu,time=8:00:00,gpus=1.", metavar="KEY=VALUE"
    ),
]
Ray = Annotated[
    list[str] | None,
    _option("--ray", "Options of --launcher ray: address=auto,gpus=0.5.", metavar="KEY=VALUE"),
]
MaxTime = Annotated[
    str | None,
    _option("--max-time", "Stop after this time as if preempted: 90s, 30m, 8h, 1-12:00:00.", metavar="TIME"),
]
Track = Annotated[
    list[str] | None,
    _option("--track", "Mirror the run to wandb (offline, unless WANDB_MODE says otherwise) or tensorboard."),
]
KeepCheckpoints = Annotated[
    bool | None, _option("--keep-checkpoints", "Keep the last checkpoint of finished jobs.", is_flag=True)
]
Snapshots = Annotated[
    int | None,
    _option(
        "--snapshots",
        "Score every asset so many times on its way, too: curves of quality over compute. Changes no result. [0]",
    ),
]
Votes = Annotated[
    list[Path] | None,
    _option(
        "--votes",
        "What raters have saved of the study of a RUN: a file, repeated for more, or a folder of files.",
    ),
]
Plugin = Annotated[
    list[Path] | None,
    _option("--plugin", "Python file with methods of your own; it is executed.", metavar="FILE.py"),
]
Out = Annotated[str | None, _option("--out", "Run folder. [results/PROMPTS-PROTOCOL]", "-o")]
Json = Annotated[bool, _option("--json", "One JSON document on stdout.")]
Quiet = Annotated[bool, _option("--quiet", "Only errors on stderr.", "-q")]


def gather(given: Mapping[str, Any]) -> RunConfig:
    """The RunConfig of a command's arguments by name: flags and variables over the file over the defaults."""
    from psdbench.launch.options import refuse_idle_options
    from psdbench.settings import resolve

    rest = {key: value for key, value in given.items() if key not in ("config", "set_", "json", "quiet")}
    if isinstance(rest.get("seeds"), str) and rest["seeds"].isdecimal():
        rest["seeds"] = int(rest["seeds"])
    rest["plugin"] = [str(file) for file in rest.get("plugin") or ()]
    config = resolve(rest, given["config"], given["set_"] or ())
    refuse_idle_options(config.launcher, rest)
    return config
