"""What the launchers for clusters can be told: ``--slurm partition=gpu,time=8:00:00`` and ``--ray address=auto``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from psdbench import strict
from psdbench.errors import UsageError, unknown

LAUNCHERS = ("local", "slurm", "ray")
Options = TypeVar("Options")
_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([MGT])i?B?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")


@dataclass(frozen=True)
class SlurmOptions:
    """What an array task asks SLURM for; what is left out is as the cluster has it."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str = "8h"
    """of an array task, after which it is put back into the queue: 30m, 8h or D-HH:MM:SS"""
    gpus: int | None = None
    """of an array task; one where the jobs need a GPU"""
    cpus: int | None = None
    """cores of an array task; the threads of a worker"""
    mem: float | None = None
    """memory of an array task, GB"""
    jobs: int | None = None
    """jobs of an array task, done one after the other; so many that there are --workers tasks"""
    parallel: int = 1000
    """array tasks at a time, at most"""
    notice: int = 120
    """seconds before its time is over in which a task may finish its step and write a checkpoint"""

    def __post_init__(self) -> None:
        if 60 * (parse_time(self.time) // 60) <= self.notice:
            raise ValueError("time must be whole minutes, and more than notice")
        for name in ("jobs", "parallel", "notice", "cpus"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")


@dataclass(frozen=True)
class RayOptions:
    """Which Ray to use and what one of its workers holds."""

    address: str | None = None
    """auto, or ray://HOST:PORT; without it, a Ray of its own is started on this machine"""
    gpus: float | None = None
    """of a worker, also a fraction; one where the jobs need a GPU"""
    cpus: float | None = None
    """of a worker; its threads"""


def launch_options(
    launcher: str, slurm: Sequence[str], ray: Sequence[str]
) -> SlurmOptions | RayOptions | None:
    """The options of the launcher, None of the local one; UsageError for what no launcher knows."""
    if launcher not in LAUNCHERS:
        raise unknown("launcher", launcher, LAUNCHERS)
    options: dict[str, SlurmOptions | RayOptions] = {
        "slurm": _read(SlurmOptions, slurm, "slurm"),
        "ray": _read(RayOptions, ray, "ray"),
    }
    return options.get(launcher)


def refuse_idle_options(launcher: str, flags: Mapping[str, Any]) -> None:
    """UsageError for --slurm or --ray on the command line that the chosen launcher would not look at.

    In a configuration file they may stand for other times.
    """
    for name in ("slurm", "ray"):
        if flags.get(name) and launcher != name:
            raise UsageError(f"--{name} is for --launcher {name}", f"add --launcher {name}, or leave it out")


def parse_time(text: str) -> float:
    """``90s``, ``30m``, ``1d12h``, ``8:00:00`` or ``1-12:00`` (days, hours, minutes) to seconds."""
    days = hours = minutes = seconds = 0
    if match := _UNITS.fullmatch(text.strip()) or _CLOCK.fullmatch(text.strip()):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = 86400 * days + 3600 * hours + 60 * minutes + seconds
    if not total:
        raise UsageError(f"'{text}' is no time", "for example 90s, 30m, 8h or 1-12:00:00")
    return float(total)


def parse_memory(text: str) -> float:
    """``4GB``, ``1.5 GiB`` or ``800MB`` to MB; a GB is taken for 1024 of them, as the sizes of devices are."""
    match = _SIZE.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise UsageError(f"'{text}' is no amount of memory", "for example 800MB, 4GB or 80GB")
    return float(match[1]) * {"m": 1, "g": 1024, "t": 1024**2}[match[2].lower()]


def _read(cls: type[Options], texts: Sequence[str], flag: str) -> Options:
    hints, values = get_type_hints(cls), dict[str, Any]()
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--{flag} '{text}' is not KEY=VALUE", f"keys: {', '.join(hints)}")
        if key not in hints:
            raise unknown("parameter", key, hints, f"--{flag}")
        values[key] = strict.parse(value, hints[key], f"--{flag} {key}")
    return strict.build(cls, values, f"--{flag}")
