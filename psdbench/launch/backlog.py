"""What is still to do: tasks in order, those that another process holds, and how often each was tried."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable

from psdbench.job import Task

MAX_ATTEMPTS = 3
BUSY_PAUSE = 1.0
"""seconds before a job that another process holds is looked at again"""


class Backlog:
    """A queue of tasks; not shared between threads."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._ready = deque(tasks)
        self._waiting: deque[tuple[float, Task]] = deque()
        self._lost: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting)

    def take(self) -> Task | None:
        """The next task, None when all that is left has to wait."""
        if not self._ready and self._waiting and self._waiting[0][0] <= time.monotonic():
            self._ready.append(self._waiting.popleft()[1])
        return self._ready.popleft() if self._ready else None

    def wait_for(self, task: Task) -> bool:
        """Another process does this task: look again later. True the first time."""
        again = (t.folder == task.folder for _, t in self._waiting)
        first = not any(again) and self._lost[f"busy {task.folder}"] == 0
        self._lost[f"busy {task.folder}"] += 1
        self._waiting.append((time.monotonic() + BUSY_PAUSE, task))
        return first

    def lost(self, task: Task) -> bool:
        """The task's worker died: try again first of all; False when it was tried often enough."""
        self._lost[str(task.folder)] += 1
        if self._lost[str(task.folder)] >= MAX_ATTEMPTS:
            return False
        self._ready.appendleft(task)
        return True
