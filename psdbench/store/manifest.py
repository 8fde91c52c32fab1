"""The manifest of a job: written last, so that a job without a valid one has not happened.

`manifest.json` names every file of the result with size and sha256. `stages.json` has the same form and
grows while the job runs: a stage enters it when its files are complete, so that a killed job redoes no
finished stage. Both carry a sha256 over themselves, their seal. What does not verify is moved to
`quarantine/` beside it, never deleted and never read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from psdbench.config import digest
from psdbench.errors import CorruptResult, PsdbenchError
from psdbench.store import atomic
from psdbench.store.digest import sha256_file
from psdbench.strict import build

SCHEMA_VERSION = 1
MANIFEST, STAGES, QUARANTINE, SEAL = "manifest.json", "stages.json", "quarantine", "seal"
Status = Literal["finished", "diverged", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class FileRecord:
    """What a file of a result must look like, and which stage made it."""

    sha256: str
    size: int
    stage: str


@dataclass(frozen=True)
class Manifest:
    """How a job ended and its files; `reason` and `step` say why and where it diverged or failed."""

    status: Status
    job: str
    protocol: str
    files: dict[str, FileRecord] = field(default_factory=dict)
    reason: str = ""
    step: int | None = None
    schema_version: int = SCHEMA_VERSION


def record(folder: Path, names: Iterable[str], stage: str) -> dict[str, FileRecord]:
    """Measure files (paths relative to `folder`) that a stage has just written."""
    return {
        name: FileRecord(sha256_file(folder / name), (folder / name).stat().st_size, stage) for name in names
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Commit a job: the last write of all."""
    _write_sealed(folder / MANIFEST, asdict(manifest))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a job folder, None when there is none yet.

    Raises CorruptResult when it is truncated, not of the right form, of an unknown schema or a symbolic link.
    """
    path = folder / MANIFEST
    data = _read_sealed(path)
    if data is None:
        return None
    if data.get("schema_version") != SCHEMA_VERSION:
        raise _corrupt(path, f"schema_version is {data.get('schema_version')!r}, not {SCHEMA_VERSION}")
    try:
        return build(Manifest, data | {"files": _records(data["files"])}, MANIFEST)
    except (PsdbenchError, AttributeError, LookupError, TypeError) as error:
        raise _corrupt(path, str(error)) from error


def write_stages(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Remember the files of the stages that are complete."""
    _write_sealed(folder / STAGES, {"files": {name: asdict(entry) for name, entry in files.items()}})


def read_stages(folder: Path) -> dict[str, FileRecord]:
    """The files of complete stages; empty when there are none. Raises CorruptResult as `read_manifest`."""
    data = _read_sealed(folder / STAGES)
    try:
        return _records(data["files"]) if data else {}
    except (PsdbenchError, AttributeError, LookupError, TypeError) as error:
        raise _corrupt(folder / STAGES, str(error)) from error


def problems(folder: Path, files: Mapping[str, FileRecord]) -> dict[str, str]:
    """File name to what is wrong with it, for all that are not as recorded; empty when all is well."""
    checked = {name: _problem(folder / name, entry) for name, entry in files.items()}
    return {name: problem for name, problem in checked.items() if problem}


def quarantine(path: Path) -> Path | None:
    """Move a bad file out of the way, to `quarantine/` beside it; None when it is not there."""
    if not path.exists() and not path.is_symlink():
        return None
    folder = path.parent / QUARANTINE
    folder.mkdir(exist_ok=True)
    number = 0
    while (target := folder / f"{path.name}.{number}").exists() or target.is_symlink():
        number += 1
    os.rename(path, target)
    return target


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object, None when the file is not there; raises CorruptResult for anything else."""
    if path.is_symlink():
        raise _corrupt(path, "a symbolic link")
    try:
        data = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _corrupt(path, str(error)) from error
    if not isinstance(data, dict):
        raise _corrupt(path, f"a {type(data).__name__} instead of an object")
    return data


def _write_sealed(path: Path, content: dict[str, Any]) -> None:
    atomic.write_json(path, {**content, SEAL: digest(content)})


def _read_sealed(path: Path) -> dict[str, Any] | None:
    """Read what `_write_sealed` wrote; CorruptResult when anything in it has changed."""
    data = read_json(path)
    if data is not None and data.pop(SEAL, None) != digest(data):
        raise _corrupt(path, "its seal does not fit its content")
    return data


def _records(data: dict[str, Any]) -> dict[str, FileRecord]:
    entries = {}
    for name, entry in data.items():
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts or not isinstance(entry, dict):
            raise CorruptResult(f"the entry of {name!r} is not valid")
        entries[name] = build(FileRecord, entry, name)
    return entries


def _problem(path: Path, expected: FileRecord) -> str:
    try:
        if path.is_symlink():
            return "is a symbolic link"
        size = path.stat().st_size
        if size != expected.size:
            return f"has {size} bytes instead of {expected.size}"
        return "" if sha256_file(path) == expected.sha256 else "has another content (sha256)"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _corrupt(path: Path, reason: str) -> CorruptResult:
    return CorruptResult(
        f"{path} is corrupt: {reason}", "run the same command again: only what is missing is redone"
    )
