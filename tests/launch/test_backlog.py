"""The queue of tasks: order, waiting for other processes, and giving up on what kills its worker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from psdbench.config import JobSpec, PriorRef, Protocol
from psdbench.job import Task
from psdbench.launch import backlog as module
from psdbench.launch.backlog import Backlog, packs

TASKS = [
    Task(JobSpec(prompt, "sds", {}, 0, Protocol(PriorRef("shapes", ""))), Path(prompt), ())
    for prompt in "abc"
]


def test_order_and_end() -> None:
    backlog = Backlog(TASKS)
    assert [backlog.take() for _ in range(4)] == [*((task,) for task in TASKS), None]
    assert len(backlog) == 0


def test_packs_hold_jobs_that_differ_in_prompt_and_seed_alone() -> None:
    other = [replace(task, spec=replace(task.spec, method="psd")) for task in TASKS]
    mixed = [task for pair in zip(TASKS, other, strict=True) for task in pair]
    assert packs(mixed, 1) == [(task,) for task in mixed]
    assert packs(mixed, 2) == [tuple(TASKS[:2]), tuple(other[:2]), (TASKS[2],), (other[2],)]
    warmer = replace(TASKS[1], spec=replace(TASKS[1].spec, params={"guidance_scale": 9.0}))
    assert packs([TASKS[0], warmer], 2) == [(TASKS[0],), (warmer,)]


def test_busy_tasks_come_back_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    backlog = Backlog(TASKS[:2])
    (first,) = backlog.take() or ()
    assert backlog.wait_for(first) is True
    assert len(backlog) == 2
    assert backlog.take() == (TASKS[1],)
    assert backlog.take() is None
    now += module.BUSY_PAUSE
    assert backlog.take() == (first,)
    assert backlog.wait_for(first) is False  # said once, not every second


def test_a_lost_task_is_next_and_then_given_up() -> None:
    backlog = Backlog(TASKS)
    pack = backlog.take()
    assert pack is not None
    for _ in range(module.MAX_ATTEMPTS - 1):
        assert backlog.lost(pack) == []
        assert backlog.take() == pack
    assert backlog.lost(pack) == list(pack)
    assert backlog.take() == (TASKS[1],)


def test_the_tasks_of_a_lost_pack_are_tried_alone() -> None:
    backlog = Backlog(TASKS, 2)
    pack = backlog.take()
    assert pack == tuple(TASKS[:2])
    assert backlog.lost(pack) == []
    assert [backlog.take() for _ in range(3)] == [(task,) for task in TASKS]
