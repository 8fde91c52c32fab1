"""The run folder: run.json, jobs/<name>/ and who may work on a job."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any

from psdbench.config import JobSpec, Protocol, stored
from psdbench.errors import CorruptResult, EnvironmentProblem, UsageError
from psdbench.store import atomic
from psdbench.store.sealed import corrupt, read_record, write_record
from psdbench.strict import build

if TYPE_CHECKING:
    from filelock import BaseFileLock

RUN, JOBS, JOB, LOCK, RUN_LOCK = "run.json", "jobs", "job.json", ".lock", ".run.lock"
EARLIER = "earlier"


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
    """All job folders of a run by name; CorruptResult when one is a symbolic link."""
    folders = sorted(entry.path for entry in os.scandir(run / JOBS) if entry.is_symlink() or entry.is_dir())
    return [refuse_link(Path(folder)) for folder in folders]


def refuse_link(path: Path) -> Path:
    """The path, if it is no symbolic link: results are read and written only where they seem to lie."""
    if path.is_symlink():
        raise CorruptResult(f"{path} is a symbolic link", "remove the link, or put the folder in its place")
    return path


def write_job(folder: Path, spec: JobSpec) -> None:
    """Write job.json: everything that determines the result, and the id of all that."""
    write_record(folder / JOB, {"id": spec.id, **stored(spec)})


def read_job(folder: Path) -> JobSpec:
    """Read job.json back; raises CorruptResult when it is not there or is not what was written, or behind a link."""
    path = refuse_link(folder) / JOB
    data = read_record(path, {1: lambda content: content}, unsealed=True)
    if data is None:
        raise CorruptResult(f"{path} is missing", "run the same command again")
    claimed = data.pop("id", None)
    try:
        if isinstance(data.get("protocol"), dict):
            data["protocol"] = _protocol(json.dumps(data["protocol"], sort_keys=True))
        for name in ("prompt", "method"):
            if isinstance(data.get(name), str):
                data[name] = intern(data[name])
        spec = build(JobSpec, data, JOB)
    except (UsageError, TypeError) as error:
        raise corrupt(path, str(error)) from error
    if spec.id != claimed:
        raise corrupt(path, "its id does not belong to it")
    return spec


@lru_cache(maxsize=64)
def _protocol(text: str) -> Protocol:
    """One object for all jobs of a protocol: a run has thousands of jobs, and few protocols."""
    return build(Protocol, json.loads(text), f"{JOB}.protocol")


def write_run(run: Path, content: dict[str, Any]) -> None:
    """Write run.json: the last command's configuration, versions and machine, for people; nothing is computed from it.

    A folder may be filled by several commands, also at the same time: those before stay, each once, oldest first,
    as `earlier`. What is corrupt is begun anew.
    """
    with claim(run.resolve(), RUN_LOCK, wait_s=60.0) as mine:  # the run itself may lie behind a link
        if not mine:
            raise EnvironmentProblem(f"{run / RUN_LOCK} has been held for a minute", "run the command again")
        try:
            before = told_commands(read_run(run))
        except CorruptResult:
            before = []
        earlier = [command for command in before if command != content]
        write_record(run / RUN, {**content, EARLIER: earlier} if earlier else content)


def read_run(run: Path) -> dict[str, Any]:
    """What run.json tells, empty without one; CorruptResult when it is not what was written."""
    content = read_record(run / RUN, {1: lambda content: content}, unsealed=True)
    if content is None:
        return {}
    earlier = content.get(EARLIER, [])
    told = isinstance(earlier, list) and all(isinstance(command, dict) for command in earlier)
    if "versions" not in content or not told:
        raise corrupt(run / RUN, "it is another record")
    return content


def told_commands(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What run.json tells of each command that filled the folder, the last at the end."""
    last = {name: value for name, value in content.items() if name != EARLIER}
    return [*content.get(EARLIER, []), *([last] if last else [])]


@contextmanager
def claim(folder: Path, name: str = LOCK, wait_s: float = 0.0) -> Iterator[bool]:
    """Own a folder for the block, or the file in it that lock `name` stands for; locks die with their owner.

    Yields False when another process owns it and still does after `wait_s` seconds.
    The lock is flock's, hence good between machines on a file system that carries it (local ones, Lustre, GPFS,
    NFS from version 4 on); EnvironmentProblem where it does not.
    """
    from filelock import FileLock

    with atomic.explained(folder):
        atomic.make_folder(refuse_link(folder))
    lock = FileLock(refuse_link(folder / name), timeout=wait_s)
    mine = _acquire(lock, folder)
    try:
        yield mine
    finally:
        if mine:
            lock.release()


def _acquire(lock: BaseFileLock, folder: Path) -> bool:
    from filelock import Timeout

    try:
        with atomic.explained(folder):
            lock.acquire()
    except NotImplementedError as error:
        raise EnvironmentProblem(
            f"the file system of {folder} has no locks, and without them jobs could be done twice",
            "choose a folder on another file system with --out",
        ) from error
    except EnvironmentProblem as error:
        if isinstance(error.__cause__, Timeout):  # which is an OSError, too
            return False
        raise
    return True
