"""What the user asked for: flag > PSDBENCH_* variable > --config file > default, merged into one RunConfig.

Flags and variables arrive together from the command line (typer reads both). The file is TOML: top-level
keys are the options' names, tables hold parameters: ``[optimize]``, ``[cameras]``, ``[evaluate]``, one per
representation and one per method, the same names that ``--set TABLE.KEY=VALUE`` uses.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from psdbench import registry, strict
from psdbench.errors import UsageError, unknown

MAX_SEEDS = 1000
_LISTS = ("methods", "prompts", "metrics")


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
    steps: int | None = None
    reward: str | None = None
    """a scorer's name; none for no reward"""
    metrics: tuple[str, ...] = ()
    negative_prompt: str = ""
    device: str = "auto"
    workers: int | None = None
    keep_checkpoints: bool = False
    out: str | None = None
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """parameters by table: {"psd": {"preference_scale": 0.5}}"""

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be auto, cpu or cuda, not '{self.device}'")
        for name in ("steps", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")


def resolve(flags: Mapping[str, Any], config: Path | None, sets: Sequence[str] = ()) -> RunConfig:
    """Merge the options given (None or []: not given) over the file's; `sets` are ``TABLE.KEY=VALUE``."""
    values, tables = read_config(config) if config else ({}, {})
    given = {name: value for name, value in flags.items() if value is not None and value != []}
    for name, value in given.items():
        values[name] = registry.split_names(value) if name in _LISTS else value
    for text in sets:
        table, key, value = _split_setting(text)
        tables.setdefault(table, {})[key] = _typed(table, key, value)
    return strict.build(RunConfig, {**values, "tables": tables}, "options")


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Options and tables of a TOML file; raises UsageError that names the file and the key or line."""
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
    return ["optimize", "cameras", "evaluate", *registry.REPRESENTATIONS, *registry.method_names()]


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


def _split_setting(text: str) -> tuple[str, str, str]:
    name, equals, value = text.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and table and key):
        raise UsageError(
            f"--set '{text}' is not TABLE.KEY=VALUE", "for example --set psd.preference_scale=0.5"
        )
    return table, key, value.strip()


def _typed(table: str, key: str, value: str) -> Any:
    from typing import get_type_hints

    cls = table_class(table)
    known = [f.name for f in fields(cls) if f.init]
    if key not in known:
        raise unknown("parameter", key, known, table)
    return strict.parse(value, get_type_hints(cls)[key], f"{table}.{key}")
