"""What the user asked for: flag > PSDBENCH_* variable > --config file > default, merged into one RunConfig.

Between the file and the defaults lie those of the prior's family (`psdbench.defaults`).

Flags and variables arrive together from the command line (typer reads both). The file is TOML: top-level
keys are the options' names, tables hold parameters: ``[optimize]``, ``[cameras]``, ``[evaluate]``, one per
representation and one per method, the same names that ``--set TABLE.KEY=VALUE`` uses.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from psdbench import defaults, registry, strict
from psdbench.errors import UsageError, unknown
from psdbench.launch.options import launch_options, parse_memory, parse_time

MAX_SEEDS = 1000
MAX_SNAPSHOTS = 100
_LISTS = ("methods", "prompts", "metrics", "slurm", "ray", "track")
TRACKERS = ("wandb", "tensorboard")


@dataclass(frozen=True)
class RunConfig:
    """The options of a run, before names are resolved; None means: decide for me."""

    methods: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    """files, names of shipped sets, or - for stdin"""
    seeds: int | str = 3
    """how many (0, 1, 2 …), or a range such as 5-7"""
    prior: str = registry.WORLD
    representation: str = "voxels"
    init: str | None = None
    """a GLB or PLY file that the representation starts from"""
    steps: int | None = None
    budget: str | None = None
    """nfe=N or seconds=S, in place of steps"""
    grad_norm: str | None = None
    reward: str | None = None
    """a scorer's name; none for no reward"""
    metrics: tuple[str, ...] = ()
    negative_prompt: str = ""
    device: str = "auto"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """number format in which the prior computes"""
    workers: int | None = None
    pack: int = 1
    """jobs of a worker that are optimised in lockstep"""
    memory: str | None = None
    """memory that the workers may take together, such as 4GB; what the device has when left out"""
    launcher: str = "local"
    """local, slurm or ray"""
    slurm: tuple[str, ...] = ()
    """KEY=VALUE of `launch.options.SlurmOptions`"""
    ray: tuple[str, ...] = ()
    """KEY=VALUE of `launch.options.RayOptions`"""
    max_time: str | None = None
    """90s, 30m, 8h or D-HH:MM:SS, after which the run stops as if preempted"""
    track: tuple[str, ...] = ()
    """where the run is mirrored to: wandb, tensorboard"""
    keep_checkpoints: bool = False
    snapshots: int = 0
    """pictures of every asset on its way, scored as the finished ones are"""
    out: str | None = None
    plugin: tuple[str, ...] = ()
    """Python files with methods; `resolve` has made them known"""
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """parameters by table: {"psd": {"preference_scale": 0.5}}"""

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be auto, cpu or cuda, not '{self.device}'")
        for name in ("steps", "workers", "pack"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not 0 <= self.snapshots <= MAX_SNAPSHOTS:
            raise ValueError(f"snapshots must be 0 to {MAX_SNAPSHOTS}, not {self.snapshots}")
        launch_options(self.launcher, self.slurm, self.ray)
        for tracker in self.track:
            if tracker not in TRACKERS:
                raise unknown("tracker", tracker, TRACKERS)
        if self.max_time is not None:
            parse_time(self.max_time)
        if self.memory is not None:
            parse_memory(self.memory)
        if self.budget is not None:
            parse_budget(self.budget)
            if self.steps is not None:
                raise ValueError("steps and budget exclude each other")


def resolve(flags: Mapping[str, Any], config: Path | None, sets: Sequence[str] = ()) -> RunConfig:
    """Merge the options given (None or []: not given) over the file's, and those over the prior's family's.

    `sets` are ``TABLE.KEY=VALUE``.
    """
    given = {name: value for name, value in flags.items() if value is not None and value != []}
    plugins = given.get("plugin", ())
    registry.use_plugins(plugins)
    values, tables = read_config(config, plugins) if config else ({}, {})
    for name, rival in (("steps", "budget"), ("budget", "steps")):
        if name in given and rival not in given:
            values.pop(rival, None)
    for name, value in given.items():
        values[name] = registry.split_names(value) if name in _LISTS else value
    for text in sets:
        table, key, value = split_setting(text)
        tables.setdefault(table, {})[key] = strict.parse(value, field_hint(table, key), f"{table}.{key}")
    values, tables = _over_family(values, tables)
    return strict.build(RunConfig, {**values, "tables": tables}, "options")


def _over_family(
    values: dict[str, Any], tables: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Options and tables with what the prior's family has for the methods at hand and they leave open."""
    family = defaults.family_of(str(values.get("prior", registry.WORLD)))
    options, below = defaults.read(family)
    if {"steps", "budget", "nfe", "seconds"} & (values.keys() | tables.get("optimize", {}).keys()):
        options.pop("steps", None)  # a length is given
    used = {*registry.SHARED_TABLES, *registry.REPRESENTATIONS, *values.get("methods", ())}
    merged = {table: below[table] | tables.get(table, {}) for table in below if table in used}
    return options | values, tables | merged


def read_config(path: Path, plugins: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Options and tables of a TOML file; raises UsageError that names the file and the key or line.

    Its own plugins are loaded, since tables may be of their methods, unless others are given.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}", "see https://toml.io") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"cannot read {path}: {reason}", "pass a TOML file to --config") from error
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    options = {key: value for key, value in data.items() if key not in tables}
    names = [f.name for f in fields(RunConfig) if f.name != "tables"]
    for key in options:
        if key not in names:
            raise unknown("key", key, names, str(path))
    if isinstance(options.get("plugin"), str):
        options["plugin"] = [options["plugin"]]
    if "plugin" in options and not plugins:
        registry.use_plugins(strict.convert(options["plugin"], tuple[str, ...], f"{path}.plugin"))
    for table in tables:
        if table not in table_names():
            raise unknown("table", table, table_names(), str(path))
        strict.build(table_class(table), tables[table], f"{path}: {table}")
    for name in _LISTS:
        if isinstance(options.get(name), str):
            options[name] = registry.split_names([options[name]])
    strict.build(RunConfig, options, str(path))
    return options, tables


def table_names() -> list[str]:
    """Every name that can stand before the dot of ``--set TABLE.KEY=VALUE``."""
    return [*registry.SHARED_TABLES, *registry.REPRESENTATIONS, *registry.method_names()]


def table_class(name: str) -> type[Any]:
    """The dataclass whose fields a table may set; raises UsageError with the nearest name."""
    from psdbench.config import CameraConfig, EvaluateConfig, OptimizeConfig

    shared = {"optimize": OptimizeConfig, "cameras": CameraConfig, "evaluate": EvaluateConfig}
    if name in shared:
        return shared[name]
    if name in registry.REPRESENTATIONS:
        return registry.representation_config(name)
    if name not in registry.method_names():
        raise unknown("table", name, table_names(), "--set")
    return registry.method_class(name)


def parse_budget(text: str) -> dict[str, Any]:
    """``nfe=600`` or ``seconds=60`` to the field of OptimizeConfig that it sets; raises UsageError."""
    unit, _, number = text.partition("=")
    try:
        amount = {"nfe": int, "seconds": float}[unit.strip()](number)
    except (KeyError, ValueError):
        amount = 0
    if not 0 < amount < float("inf"):
        raise UsageError(
            f"budget must be nfe=N or seconds=S, not '{text}'",
            "for example --budget nfe=600 (denoiser forwards of a job) or --budget seconds=60",
        )
    return {unit.strip(): amount}


def seed_list(seeds: int | str) -> list[int]:
    """``3`` to 0, 1, 2; ``5-7`` to 5, 6, 7."""
    first, dash, last = str(seeds).partition("-")
    try:
        numbers = range(int(first), int(last) + 1) if dash else range(int(first))
    except ValueError:
        numbers = range(0)
    if not 1 <= len(numbers) <= MAX_SEEDS or numbers[0] < 0:
        raise UsageError(
            f"seeds must be a count or a range, not '{seeds}'", "for example --seeds 3 or --seeds 5-7"
        )
    return list(numbers)


def split_setting(
    text: str, flag: str = "--set", example: str = "psd.preference_scale=0.5"
) -> tuple[str, str, str]:
    """``TABLE.KEY=VALUE`` to its three parts; UsageError that names the flag and gives an example."""
    name, equals, value = text.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and table and key):
        raise UsageError(f"{flag} '{text}' is not TABLE.KEY=VALUE", f"for example {flag} {example}")
    return table, key, value.strip()


def field_hint(table: str, key: str) -> Any:
    """The type of a parameter; UsageError with the nearest name when the table or the key is unknown."""
    from typing import get_type_hints

    cls = table_class(table)
    known = [f.name for f in fields(cls) if f.init]
    if key not in known:
        raise unknown("parameter", key, known, table)
    return get_type_hints(cls)[key]
