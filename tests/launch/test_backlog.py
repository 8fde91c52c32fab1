"""The queue of tasks: order, waiting for other processes, and giving up on what kills its worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from psdbench.config import JobSpec, PriorRef, Protocol
from psdbench.job import Task
from psdbench.launch import backlog as module
from psdbench.launch.backlog import Backlog

TASKS = [
    Task(JobSpec(prompt, "sds", {}, 0, Protocol(PriorRef("shapes", ""))), Path(prompt), ())
    for prompt in "abc"
]


def test_order_and_end() -> None:
    backlog = Backlog(TASKS)
    assert [backlog.take() for _ in range(4)] == [*TASKS, None]
    assert len(backlog) == 0


def test_busy_tasks_come_back_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    backlog = Backlog(TASKS[:2])
    first = backlog.take()
    assert first is not None
    assert backlog.wait_for(first) is True
    assert len(backlog) == 2
    assert backlog.take() == TASKS[1]
    assert backlog.take() is None
    now += module.BUSY_PAUSE
    assert backlog.take() == first
    assert backlog.wait_for(first) is False  # said once, not every second


def test_a_lost_task_is_next_and_then_given_up() -> None:
    backlog = Backlog(TASKS)
    task = backlog.take()
    assert task is not None
    for _ in range(module.MAX_ATTEMPTS - 1):
        assert backlog.lost(task)
        assert backlog.take() == task
    assert not backlog.lost(task)
    assert backlog.take() == TASKS[1]
