"""Hyper-parameters by family of priors: one TOML file each, in the form of --config and just below it.

A dataclass default is right for the embedded world, so `shapes.toml` only holds what would differ. `sd.toml` and
`mvdream.toml` hold what the methods' authors use with such priors; the comment on a value's line is its source.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from psdbench import registry
from psdbench.errors import PsdbenchError

FAMILIES = ("shapes", "sd", "mvdream")
"""the embedded world, Stable-Diffusion-format folders, and those that denoise four views with their cameras"""
_TABLE = re.compile(r"\[(\w+)\]")
_VALUE = re.compile(r"(\w+) = .+?  # (.+)")


def family_of(prior: str) -> str:
    """The family of a prior, by its name or its UNet's configuration.

    What cannot be read counts as `sd`: the plan, which needs the folder, says what is wrong with it.
    """
    name, _ = registry.split_prior(prior)
    if name == registry.WORLD:
        return "shapes"
    from psdbench.priors.folder import read_config, sees_cameras

    try:
        return "mvdream" if sees_cameras(read_config(registry.prior_folder(name), "unet")) else "sd"
    except PsdbenchError:
        return "sd"


def path(name: str) -> Path:
    """One of the files here."""
    return Path(__file__).parent / f"{name}.toml"


def read(name: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A file's options and its tables of parameters."""
    data = tomllib.loads(path(name).read_text(encoding="utf-8"))
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    return {key: value for key, value in data.items() if key not in tables}, tables


def sources(name: str) -> dict[str, str]:
    """Where each value of a file is from, by ``KEY`` or ``TABLE.KEY``: the comment at the end of its line."""
    prefix, found = "", dict[str, str]()
    for line in path(name).read_text(encoding="utf-8").splitlines():
        if table := _TABLE.fullmatch(line):
            prefix = f"{table[1]}."
        elif value := _VALUE.fullmatch(line):
            found[prefix + value[1]] = value[2]
    return found
