"""Records of a run folder and its jobs: JSON objects with the version of their form and a sha256, the seal.

A form that has changed gets a new version; its readers bring what older versions wrote into the present form,
so that results stay readable. Version 1 sealed neither job.json nor run.json, and its stages.json did not say
whose stages it lists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psdbench.errors import CorruptResult, EnvironmentProblem
from psdbench.store import atomic

SCHEMA_VERSION = 2
SEAL, VERSION = "seal", "schema_version"
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record in the present form, atomically."""
    record = {**content, VERSION: SCHEMA_VERSION}
    atomic.write_json(path, {**record, SEAL: seal(record)})


def read_record(path: Path, older: Mapping[int, Upgrade], unsealed: bool = False) -> dict[str, Any] | None:
    """The content of a record without version and seal, None when there is none.

    `older` brings the content of each older version into the present form; `unsealed` says that version 1 of
    this record had no seal and no version. Raises CorruptResult when anything in the file has changed, or it is
    a symbolic link, and EnvironmentProblem when a later psdbench wrote it.
    """
    data = read_json(path)
    if data is None:
        return None
    if unsealed and SEAL not in data and VERSION not in data:
        return older[1](data)
    if data.pop(SEAL, None) != seal(data):
        raise corrupt(path, "its seal does not fit its content")
    version = data.pop(VERSION, 1)
    if version == SCHEMA_VERSION:
        return data
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise EnvironmentProblem(
            f"{path} was written by a later psdbench (form {version}; this one reads up to {SCHEMA_VERSION})",
            "update psdbench, or choose another folder with --out",
        )
    if version not in older:
        raise corrupt(path, f"{VERSION} is {version!r}, not {SCHEMA_VERSION}")
    return older[version](data)


@contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Within the block, give each CorruptResult this remedy instead of its own."""
    try:
        yield
    except CorruptResult as error:
        raise CorruptResult(str(error), remedy) from error


def seal(record: dict[str, Any]) -> str:
    """sha256 (hex) of a record's canonical JSON: `config.digest` of what is plain JSON already."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object, None when the file is not there; raises CorruptResult for anything else."""
    if path.is_symlink():
        raise corrupt(path, "a symbolic link")
    try:
        data = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise corrupt(path, str(error)) from error
    if not isinstance(data, dict):
        raise corrupt(path, f"a {type(data).__name__} instead of an object")
    return data


def corrupt(path: Path, reason: str) -> CorruptResult:
    """The error for a record that is not what was written."""
    return CorruptResult(
        f"{path} is corrupt: {reason}", "run the same command again: only what is missing is redone"
    )


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
