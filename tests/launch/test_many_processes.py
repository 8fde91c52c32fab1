"""Many processes on one run folder: every stage of every job is done exactly once, and all end with all jobs."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from psdbench import job
from psdbench.config import JobSpec, PriorRef, Protocol
from psdbench.job import Event, Models, Task, Watch
from psdbench.launch.local import run_jobs
from psdbench.store import atomic
from psdbench.store.manifest import problems, read_manifest
from psdbench.store.run import job_folder, open_run

PROTOCOL = Protocol(PriorRef("shapes", "0" * 64))


def stage(name: str) -> Callable[[Task, Models, Watch], Iterable[str]]:
    """A stage in the place of a real one: it writes one file, and a line into a log that all processes share."""

    def run(task: Task, models: Models, watch: Watch) -> Iterable[str]:
        log = os.open(task.folder.parent.parent / "done.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{task.folder.name} {name}\n".encode())
        os.close(log)
        atomic.write_text(task.folder / f"{name}.txt", f"{task.spec.seed} {name}")
        return [f"{name}.txt"]

    return run


def work(tasks: Sequence[Task], everything: str) -> None:
    """One of the processes: ends with exit code 0 when all jobs are finished."""
    ended = list[Event]()
    outcomes = run_jobs(tasks, 1, "cpu", ended.append)
    done = sum(outcome.fresh for outcome in outcomes)
    Path(everything, f"{os.getpid()}.count").write_text(f"{done}")
    os._exit(0 if [outcome.status for outcome in outcomes] == ["finished"] * len(tasks) else 1)


def run_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, jobs: int) -> list[int]:
    """How many jobs each process has brought to their end; asserts that nothing was done twice."""
    monkeypatch.setattr(job, "_STAGES", {name: stage(name) for name in job.STAGE_ORDER})
    specs = [JobSpec("a red cube", "sds", {}, seed, PROTOCOL) for seed in range(jobs)]
    run = open_run(tmp_path / "run")
    tasks = [Task(spec, job_folder(run, spec), ()) for spec in specs]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(tasks, str(tmp_path))) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
    done = Counter((run / "done.log").read_text().splitlines())
    assert done == Counter(f"{task.folder.name} {name}" for task in tasks for name in job.STAGE_ORDER)
    for task in tasks:
        manifest = read_manifest(task.folder)
        assert manifest is not None
        assert (manifest.status, problems(task.folder, manifest.files)) == ("finished", {})
    return [int(path.read_text()) for path in tmp_path.glob("*.count")]


def test_four_processes_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = run_together(tmp_path, monkeypatch, count=4, jobs=20)
    assert len(shares) == 4
    assert sum(shares) == 20


@pytest.mark.slow
def test_sixteen_processes_and_two_hundred_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_together(tmp_path, monkeypatch, count=16, jobs=200)
