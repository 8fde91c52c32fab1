"""The local launcher with real processes: same bytes for any number of workers, dead workers, signals, two runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from psdbench import registry
from psdbench.config import JobSpec, OptimizeConfig, Protocol
from psdbench.errors import Interrupted
from psdbench.job import Event, Task
from psdbench.launch import local, threads
from psdbench.plan import resolve_params
from psdbench.store.manifest import read_manifest
from psdbench.store.run import job_folder


def make_tasks(run: Path, prior_folder: Path, count: int = 3, steps: int = 4) -> list[Task]:
    protocol = Protocol(
        registry.prior_ref(str(prior_folder)),
        representation_params=resolve_params("voxels", {"resolution": 12}),
        optimize=OptimizeConfig(steps=steps, size=32, checkpoint_every=2),
    )
    specs = [JobSpec("a red cube", "sds", resolve_params("sds", {}), seed, protocol) for seed in range(count)]
    return [Task(spec, job_folder(run, spec), ("true_preference",)) for spec in specs]


def results(tasks: list[Task]) -> list[bytes]:
    names = ("asset.safetensors", "scores.json", "renders/view_00.png")
    return [(task.folder / name).read_bytes() for task in tasks for name in names]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 2)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, tiny_prior_folder: Path) -> list[bytes]:
    tasks = make_tasks(tmp_path_factory.mktemp("reference"), tiny_prior_folder)
    assert [o.status for o in local.run_jobs(tasks, 1, "cpu", lambda event: None)] == ["finished"] * 3
    return results(tasks)


def test_two_workers_one_killed_same_bytes(
    tmp_path: Path, tiny_prior_folder: Path, reference: list[bytes]
) -> None:
    """The first worker that steps is killed with SIGKILL; its job is done by another one."""
    tasks, events, killed = make_tasks(tmp_path, tiny_prior_folder), list[Event](), list[int]()

    def watch(event: Event) -> None:
        events.append(event)
        if event.kind == "step" and not killed:
            victim = multiprocessing.active_children()[0]
            killed.append(victim.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    outcomes = local.run_jobs(tasks, 2, "cpu", watch)
    assert sorted(o.status for o in outcomes) == ["finished"] * 3
    assert results(tasks) == reference
    assert any("SIGKILL" in e.text for e in events if e.kind == "note")
    assert multiprocessing.active_children() == []


def test_a_job_that_kills_every_worker_fails_with_the_reason(tmp_path: Path, tiny_prior_folder: Path) -> None:
    tasks = make_tasks(tmp_path, tiny_prior_folder, count=2, steps=500)

    def watch(event: Event) -> None:
        if event.kind == "step" and event.job == tasks[0].folder.name:
            for child in multiprocessing.active_children():
                if child.is_alive():
                    os.kill(child.pid or 0, signal.SIGKILL)

    pool = local.Pool(1, "cpu", local.Watch(watch))
    outcome = pool.run(local.Backlog(tasks[:1]))[0]
    assert outcome.status == "failed"
    assert outcome.reason == f"its worker was killed by SIGKILL, {local.MAX_ATTEMPTS} times"
    manifest = read_manifest(tasks[0].folder)
    assert manifest is not None
    assert manifest.status == "failed"


@pytest.mark.parametrize(
    ("workers", "number"), [(1, signal.SIGINT), (1, signal.SIGTERM), (2, signal.SIGTERM)]
)
def test_signals_stop_after_the_step(
    tmp_path: Path, tiny_prior_folder: Path, workers: int, number: signal.Signals
) -> None:
    tasks = make_tasks(tmp_path, tiny_prior_folder, count=2, steps=5000)
    before = signal.getsignal(number)

    def watch(event: Event) -> None:
        if event.kind == "step":
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as caught:
        local.run_jobs(tasks, workers, "cpu", watch)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert multiprocessing.active_children() == []
    assert list(tasks[0].folder.glob("checkpoint-*"))
    assert read_manifest(tasks[0].folder) is None


def test_a_second_run_waits_and_repeats_nothing(
    tmp_path: Path, tiny_prior_folder: Path, reference: list[bytes]
) -> None:
    """Two launchers on one folder: together they do each job exactly once, and both end with all of them."""
    tasks, ends = make_tasks(tmp_path, tiny_prior_folder), list[str]()

    def watch(event: Event) -> None:
        if event.kind == "start":
            ends.append(event.job)

    other: list[str] = []
    thread = threading.Thread(target=lambda: other.extend(_in_another_process(tasks)))
    thread.start()
    outcomes = local.run_jobs(tasks, 1, "cpu", watch)
    thread.join()
    assert [o.status for o in outcomes] == ["finished"] * 3
    assert sorted(ends + other) == sorted(task.folder.name for task in tasks)
    assert results(tasks) == reference


def _in_another_process(tasks: list[Task]) -> list[str]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=run_and_tell, args=(tasks, queue))
    process.start()
    started: list[str] = queue.get()
    process.join()
    assert process.exitcode == 0
    return started


def run_and_tell(tasks: list[Task], queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """In the other process: run the same jobs, tell which of them were started here."""
    started: list[str] = []
    local.run_jobs(tasks, 1, "cpu", lambda e: started.append(e.job) if e.kind == "start" else None)
    queue.put(started)


def test_more_workers_than_the_cores_carry_are_refused_with_a_note(
    tmp_path: Path, tiny_prior_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    events = list[Event]()
    local.run_jobs(make_tasks(tmp_path, tiny_prior_folder, count=1), 2, "cpu", events.append)
    assert events[0].text == "2 workers x 2 threads exceed 2 cores: 1 workers"
