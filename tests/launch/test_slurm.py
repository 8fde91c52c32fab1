"""What the SLURM launcher asks for and how it judges; on a real SLURM it is tried in tests/cluster."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
from pathlib import Path

import pytest
from test_local import make_tasks

from psdbench.errors import EnvironmentProblem
from psdbench.job import Event, Models, Watch, commit_lost, execute
from psdbench.launch import slurm
from psdbench.launch.options import SlurmOptions
from psdbench.launch.slurm import ArrayTask, SlurmRun, judge


def test_jobs_are_spread_evenly_over_the_tasks_of_an_array(tmp_path: Path, tiny_prior_folder: Path) -> None:
    tasks = make_tasks(tmp_path, tiny_prior_folder, count=7)

    def lengths(workers: int | None, **options: int) -> list[int]:
        chunks = SlurmRun(tmp_path, SlurmOptions(**options), workers, "cpu").chunks(tasks)  # type: ignore[arg-type]
        assert sorted(task.folder for chunk in chunks for task in chunk) == sorted(t.folder for t in tasks)
        return [len(chunk) for chunk in chunks]

    assert lengths(None) == [1] * 7
    assert lengths(3) == [3, 2, 2]
    assert lengths(3, jobs=4) == [4, 3]
    assert lengths(99) == [1] * 7


def test_only_what_is_given_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    asked = SlurmRun(tmp_path / "mine", SlurmOptions(), None, "cpu").parameters()
    assert asked == {
        "job_name": "psdbench-mine",
        "time": 480,
        "cpus_per_task": 1,
        "array_parallelism": 1000,
        "signal_delay_s": 120,
    }
    options = SlurmOptions(partition="gpu", time="1-00:00", mem=7.5)
    asked = SlurmRun(tmp_path, options, None, "cuda").parameters()
    shown = [asked[name] for name in ("partition", "time", "mem", "gpus_per_node")]
    assert shown == ["gpu", 1440, "7680M", 1]


def test_a_job_is_judged_by_its_files(tmp_path: Path, tiny_prior_folder: Path) -> None:
    first, second = make_tasks(tmp_path, tiny_prior_folder, count=2, steps=1)
    models, watch = Models(), Watch()
    assert judge(first, None, models, watch) is None, "not begun"
    commit_lost(first, "its worker died")
    old = slurm._stamp(first)
    assert judge(first, old, models, watch) is None, "that was before it was submitted"
    outcome = judge(first, None, models, watch)
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("failed", "its worker died")
    execute([first], models, watch)
    outcome = judge(first, old, models, watch)
    assert outcome is not None
    assert (outcome.status, outcome.fresh) == ("finished", True)
    more = dataclasses.replace(first, metrics=("true_preference", "ground_truth"))
    assert judge(more, slurm._stamp(first), models, watch) is None, "a metric is still missing"
    assert judge(second, None, models, watch) is None


def test_a_task_leaves_results_and_hands_signals_on(
    tmp_path: Path, tiny_prior_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler of SIGUSR2 stands for submitit's, which puts the task back into the queue."""
    tasks, heard = make_tasks(tmp_path, tiny_prior_folder, count=1, steps=3), list[int]()
    task = pickle.loads(pickle.dumps(ArrayTask(tuple(tasks), "cpu", 1)))
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(slurm, "_log", _announce_the_end)
            task()
        assert heard == [signal.SIGUSR2]
        assert judge(tasks[0], None, Models(), Watch()) is None
        task()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [signal.SIGUSR2], "nothing to hand on"
    assert judge(tasks[0], None, Models(), Watch()) is not None


def _announce_the_end(event: Event) -> None:
    if event.kind == "start":
        signal.raise_signal(signal.SIGUSR2)


def test_a_silent_slurm_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Controllers are restarted while arrays run: nothing counts as lost, and it is told once."""
    squeue, notes = tmp_path / "squeue", list[str]()
    watch = Watch(lambda event: notes.append(event.text))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    run = SlurmRun(tmp_path, SlurmOptions(), None, "cpu")
    run._remember([{"id": "7", "jobs": ["a", "b"]}])
    for script, queued in [
        ("echo no controller >&2; exit 1", {"a", "b"}),
        ("echo 7", {"a", "b"}),
        ("", set()),
    ]:
        squeue.write_text(f"#!/bin/sh\n{script}\n")
        squeue.chmod(0o755)
        assert run._queued(watch) == run._queued(watch) == queued
    assert notes == ["squeue does not answer (exit code 1): no controller; waiting until it does"]


def test_without_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem) as caught:
        slurm.require_submitit()
    assert "submitit" in str(caught.value) or "no sbatch" in str(caught.value)
