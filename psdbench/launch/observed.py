"""The progress of jobs that run on other machines, told from the files that they leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from psdbench.job import Event, Task
from psdbench.store.prune import CHECKPOINTS


@dataclass
class Observed:
    """Reports steps as checkpoints appear; their spacing is how often a job writes one."""

    report: Callable[[Event], None]
    seen: dict[str, int] = field(default_factory=dict)
    """steps last reported, by job"""

    def look(self, task: Task) -> None:
        """Report a job's start and its newest checkpoint, once each."""
        name, optimize = task.folder.name, task.spec.protocol.optimize
        step = max((int(p.stem.rpartition("-")[2]) for p in task.folder.glob(CHECKPOINTS)), default=0)
        if step <= self.seen.get(name, 0):
            return
        if name not in self.seen:
            self.report(Event("start", name))
        self.seen[name] = step
        known = optimize.nfe is None and optimize.seconds is None
        self.report(Event("step", name, step, optimize.steps if known else 0))
