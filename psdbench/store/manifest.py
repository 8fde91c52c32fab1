"""The manifest of a job: written last, so that a job without a valid one has not happened.

`manifest.json` names every file of the result with size and sha256. `stages.json` has the same form and
grows while the job runs: a stage enters it when its files are complete, so that a killed job redoes no
finished stage. What does not verify is moved to `quarantine/` beside it, never deleted and never read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from psdbench.errors import CorruptResult, PsdbenchError
from psdbench.store import atomic
from psdbench.store.digest import sha256_file
from psdbench.store.sealed import corrupt, read_json, read_record, write_record
from psdbench.strict import build

MANIFEST, STAGES, QUARANTINE = "manifest.json", "stages.json", "quarantine"
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


def record(folder: Path, names: Iterable[str], stage: str) -> dict[str, FileRecord]:
    """Measure files (paths relative to `folder`) that a stage has just written."""
    return {
        name: FileRecord(sha256_file(folder / name), (folder / name).stat().st_size, stage) for name in names
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Commit a job: the last write of all."""
    write_record(folder / MANIFEST, asdict(manifest))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a job folder, None when there is none yet.

    Raises CorruptResult when it is truncated, not of the right form or a symbolic link.
    """
    path = folder / MANIFEST
    data = read_record(path, {1: lambda content: content})
    if data is None:
        return None
    try:
        return build(Manifest, data | {"files": _records(data["files"])}, MANIFEST)
    except (PsdbenchError, AttributeError, LookupError, TypeError) as error:
        raise corrupt(path, str(error)) from error


def told_status(folder: Path) -> str:
    """What the manifest of a job says of its end, unchecked; empty without one. For forecasts over many jobs."""
    try:
        status = (read_json(folder / MANIFEST) or {}).get("status")
    except CorruptResult:
        return ""
    return status if status in STATUSES else ""


def write_stages(folder: Path, job: str, files: Mapping[str, FileRecord]) -> None:
    """Remember the files of the stages of a job (its id) that are complete."""
    content = {name: asdict(entry) for name, entry in files.items()}
    write_record(folder / STAGES, {"job": job, "files": content})


def read_stages(folder: Path) -> tuple[str, dict[str, FileRecord]]:
    """Whose stages they are, and their files; an empty id where version 1 did not say, or there are none.

    Raises CorruptResult as `read_manifest`.
    """
    path = folder / STAGES
    data = read_record(path, {1: lambda content: {"job": "", **content}}) or {"job": "", "files": {}}
    try:
        return str(data["job"]), _records(data["files"])
    except (PsdbenchError, AttributeError, LookupError, TypeError) as error:
        raise corrupt(path, str(error)) from error


def foretell(folder: Path, job: str, name: str, content: bytes, stage: str) -> None:
    """Enter a file that is about to be replaced into the record of stages of a job (its id).

    The file that is there is in the manifest, the one that comes is in that record: whenever the process dies, one
    of the two knows what it has left.
    """
    entry = FileRecord(hashlib.sha256(content).hexdigest(), len(content), stage)
    write_stages(folder, job, {**read_stages(folder)[1], name: entry})


def result_problems(folder: Path, manifest: Manifest, names: Iterable[str] | None = None) -> dict[str, str]:
    """`problems` of the files of a job that has ended, or of those named; `foretell` says why two records count.

    Raises CorruptResult as `read_stages`.
    """
    named = manifest.files if names is None else {n: manifest.files[n] for n in names if n in manifest.files}
    if not (wrong := problems(folder, named)):
        return {}
    job, staged = read_stages(folder)
    newer = {name: staged[name] for name in wrong if name in staged and job == manifest.job}
    sound = newer.keys() - problems(folder, newer)
    return {name: what for name, what in wrong.items() if name not in sound}


def problems(folder: Path, files: Mapping[str, FileRecord]) -> dict[str, str]:
    """File name to what is wrong with it, for all that are not as recorded; empty when all is well."""
    checked = {name: _problem(folder, name, entry) for name, entry in files.items()}
    return {name: problem for name, problem in checked.items() if problem}


def quarantine(path: Path) -> Path | None:
    """Move a bad file out of the way, to `quarantine/` beside it; None when it is not there."""
    if not path.exists() and not path.is_symlink():
        return None
    folder = path.parent / QUARANTINE
    with atomic.explained(folder):
        if folder.is_symlink():
            folder.unlink()
        folder.mkdir(exist_ok=True)
        number = 0
        while (target := folder / f"{path.name}.{number}").exists() or target.is_symlink():
            number += 1
        os.rename(path, target)
    return target


def _records(data: dict[str, Any]) -> dict[str, FileRecord]:
    entries = {}
    for name, entry in data.items():
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts or not isinstance(entry, dict):
            raise CorruptResult(f"the entry of {name!r} is not valid")
        entries[name] = build(FileRecord, entry, name)
    return entries


def _problem(folder: Path, name: str, expected: FileRecord) -> str:
    path = folder / name
    try:
        if any(part.is_symlink() for part in (path, *path.parents[: len(Path(name).parts) - 1])):
            return "is a symbolic link"
        size = path.stat().st_size
        if size != expected.size:
            return f"has {size} bytes instead of {expected.size}"
        return "" if sha256_file(path) == expected.sha256 else "has another content (sha256)"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
