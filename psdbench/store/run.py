"""The run folder: run.json, jobs/<name>/ and who may work on a job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psdbench.config import JobSpec, stored
from psdbench.errors import CorruptResult, EnvironmentProblem, UsageError
from psdbench.store import atomic
from psdbench.store.manifest import read_json
from psdbench.strict import build

RUN, JOBS, JOB, LOCK = "run.json", "jobs", "job.json", ".lock"


def open_run(folder: Path) -> Path:
    """Make the run folder, or find it; raises EnvironmentProblem when it cannot be written to."""
    jobs = folder / JOBS
    try:
        jobs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise EnvironmentProblem(
            f"cannot make the folder {folder}: {reason}", "choose another with --out"
        ) from error
    if not os.access(jobs, os.W_OK | os.X_OK):
        raise EnvironmentProblem(f"cannot write to {folder}: permission denied", "choose another with --out")
    return folder


def existing_run(folder: Path) -> Path:
    """The folder of a run that is to be read; raises UsageError when it is none."""
    if not (folder / JOBS).is_dir():
        raise UsageError(
            f"{folder} is not a run folder", "pass the folder that psdbench run wrote, results/NAME"
        )
    return folder


def job_folder(run: Path, spec: JobSpec) -> Path:
    """Where a job of the run lives."""
    return run / JOBS / spec.folder_name


def job_folders(run: Path) -> list[Path]:
    """All job folders of a run by name; symbolic links are not followed."""
    return sorted(p for p in (run / JOBS).iterdir() if p.is_dir() and not p.is_symlink())


def write_job(folder: Path, spec: JobSpec) -> None:
    """Write job.json: everything that determines the result, and the id of all that."""
    atomic.write_json(folder / JOB, {"id": spec.id, **stored(spec)})


def read_job(folder: Path) -> JobSpec:
    """Read job.json back; raises CorruptResult when it is not there or is not what was written."""
    path = folder / JOB
    data = read_json(path)
    if data is None:
        raise CorruptResult(f"{path} is missing", "run the same command again")
    claimed = data.pop("id", None)
    try:
        spec = build(JobSpec, data, JOB)
    except (UsageError, TypeError) as error:
        raise CorruptResult(f"{path} is corrupt: {error}", "run the same command again") from error
    if spec.id != claimed:
        raise CorruptResult(f"{path} is corrupt: its id does not belong to it", "run the same command again")
    return spec


def write_run(run: Path, content: dict[str, Any]) -> None:
    """Write run.json: configuration, versions and machine; for people, nothing is computed from it."""
    atomic.write_json(run / RUN, content)


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Own a job folder for the block; yields False when another process does. Locks die with their owner."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise CorruptResult(f"{folder} is a symbolic link", "remove the link")
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
