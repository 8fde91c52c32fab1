"""What is still to do: tasks in order, those that another process holds, and how often each was tried."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, TypeAlias

from psdbench.config import canonical_json
from psdbench.job import Task

Pack: TypeAlias = tuple[Task, ...]
"""jobs that are optimised in lockstep"""

MAX_ATTEMPTS = 3
BUSY_PAUSE = 1.0
"""seconds before a job that another process holds is looked at again"""


def packs(tasks: Iterable[Task], size: int) -> list[Pack]:
    """Tasks that differ in prompt and seed alone, so many at a time, in the order of the first of each pack."""
    alike = dict[Any, list[list[tuple[int, Task]]]]()
    for place, task in enumerate(tasks):
        spec = task.spec
        key = (spec.method, canonical_json(spec.params), spec.lora, spec.protocol.hash)
        rows = alike.setdefault(key, [[]])
        if len(rows[-1]) == size:
            rows.append([])
        rows[-1].append((place, task))
    in_order = sorted((row for rows in alike.values() for row in rows), key=lambda row: row[0][0])
    return [tuple(task for _, task in row) for row in in_order]


class Backlog:
    """A queue of packs of tasks, of one task unless told otherwise; not shared between threads."""

    def __init__(self, tasks: Iterable[Task], pack: int = 1) -> None:
        self._ready = deque(packs(tasks, pack))
        self._waiting: deque[tuple[float, Task]] = deque()
        self._lost: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting)

    def take(self) -> Pack | None:
        """The next pack, None when all that is left has to wait."""
        if not self._ready and self._waiting and self._waiting[0][0] <= time.monotonic():
            self._ready.append((self._waiting.popleft()[1],))
        return self._ready.popleft() if self._ready else None

    def wait_for(self, task: Task) -> bool:
        """Another process does this task: look again later. True the first time."""
        again = (t.folder == task.folder for _, t in self._waiting)
        first = not any(again) and self._lost[f"busy {task.folder}"] == 0
        self._lost[f"busy {task.folder}"] += 1
        self._waiting.append((time.monotonic() + BUSY_PAUSE, task))
        return first

    def lost(self, pack: Pack) -> list[Task]:
        """The pack's worker died: try its tasks again first of all, each alone, since one may have killed it.

        Those that were tried often enough are returned instead.
        """
        given_up = []
        for task in reversed(pack):
            self._lost[str(task.folder)] += 1
            if self._lost[str(task.folder)] >= MAX_ATTEMPTS:
                given_up.append(task)
            else:
                self._ready.appendleft((task,))
        return given_up[::-1]
