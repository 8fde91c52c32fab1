"""Many processes on one run folder: every stage of every job is done exactly once, and all end with all jobs."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from psdbench import job
from psdbench.config import JobSpec, PriorRef, Protocol
from psdbench.job import Event, Task, Watch
from psdbench.launch import local
from psdbench.launch.backlog import Backlog
from psdbench.launch.local import Pool, run_jobs
from psdbench.store import atomic
from psdbench.store.manifest import problems, read_manifest
from psdbench.store.run import job_folder, open_run

PROTOCOL = Protocol(PriorRef("shapes", "0" * 64))


def stage(name: str, seconds: float) -> Callable[..., Iterable[str]]:
    """A stage in the place of a real one: it writes one file, and a line into a log that all processes share."""

    def run(task: Task, *others: object) -> Iterable[str]:
        time.sleep(seconds)
        log = os.open(task.folder.parent.parent / "done.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{task.folder.name} {name}\n".encode())
        os.close(log)
        atomic.write_text(task.folder / f"{name}.txt", f"{task.spec.seed} {name}")
        return [f"{name}.txt"]

    return run


def replace_stages(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let jobs do nothing but sleep and write; processes that are forked inherit it."""
    stages = {name: stage(name, seconds if name == "optimize" else 0.0) for name in job.STAGE_ORDER}
    monkeypatch.setattr(job, "STAGES", {name: stages[name] for name in job.STAGE_ORDER if name != job.SCORE})
    monkeypatch.setattr(job, "stored_views", lambda task: [])
    monkeypatch.setattr(job, "score", stages[job.SCORE])


def work(tasks: Sequence[Task], everything: str) -> None:
    """One of the processes: ends with exit code 0 when all jobs are finished."""
    ended = list[Event]()
    outcomes = run_jobs(tasks, 1, "cpu", ended.append)
    done = sum(outcome.fresh for outcome in outcomes)
    Path(everything, f"{os.getpid()}.count").write_text(f"{done}")
    os._exit(0 if [outcome.status for outcome in outcomes] == ["finished"] * len(tasks) else 1)


def run_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, jobs: int) -> list[int]:
    """How many jobs each process has brought to their end; asserts that nothing was done twice."""
    replace_stages(monkeypatch, 0.0)
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


def seconds_of(run: Path, workers: int, jobs: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """How long a pool needs for some jobs that sleep; its workers are forked, so that none has to start up."""
    specs = [JobSpec("a red cube", "sds", {}, seed, PROTOCOL) for seed in range(jobs)]
    tasks = [Task(spec, job_folder(open_run(run), spec), ()) for spec in specs]
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda kind: FORK)
    begin = time.monotonic()
    outcomes = Pool(workers, "cpu", Watch()).run(Backlog(tasks))
    assert [outcome.status for outcome in outcomes] == ["finished"] * jobs
    return time.monotonic() - begin


FORK = multiprocessing.get_context("fork")
SLEEP = 2.0
"""seconds of a job"""


def test_idle_workers_leave_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are forked: they hold each other's pipes, so that none would hear of a closed one."""
    replace_stages(monkeypatch, 0.2)
    assert seconds_of(tmp_path, 3, 3, monkeypatch) < local.STOP_SECONDS / 4


@pytest.mark.slow
def test_sleeping_jobs_scale_with_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker adds beside the jobs themselves: at most 0.2 s a job, and 90 % of the ideal speed with eight."""
    replace_stages(monkeypatch, SLEEP)
    alone = seconds_of(tmp_path / "1", 1, 8, monkeypatch)
    together = seconds_of(tmp_path / "8", 8, 64, monkeypatch)
    overhead, efficiency = alone / 8 - SLEEP, alone / together
    print(f"overhead {overhead:.3f} s a job, 8 workers at {efficiency:.0%} of 8 times one worker's speed")
    assert overhead <= 0.2
    assert efficiency >= 0.9
