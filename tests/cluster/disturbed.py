"""Jobs that somebody disturbs once the first checkpoint is there, and what has happened meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from psdbench import registry
from psdbench.config import JobSpec, OptimizeConfig, Protocol
from psdbench.job import Event, Task
from psdbench.plan import resolve_params
from psdbench.store.manifest import read_manifest
from psdbench.store.prune import CHECKPOINTS
from psdbench.store.run import job_folder

JOBS, STEPS, EVERY = 2, 32, 4
METRICS = ("true_preference",)
RESULTS = ("asset.safetensors", "trace.csv", "scores.json", "turntable.mp4", "renders/view_00.png")


def make_tasks(run: Path, prior_folder: Path) -> list[Task]:
    """Jobs of some seconds with a tiny untrained prior."""
    protocol = Protocol(
        registry.prior_ref(str(prior_folder)),
        representation_params=resolve_params("voxels", {"resolution": 12}),
        optimize=OptimizeConfig(steps=STEPS, size=32, checkpoint_every=EVERY),
    )
    specs = [JobSpec("a red cube", "sds", resolve_params("sds", {}), seed, protocol) for seed in range(JOBS)]
    return [Task(spec, job_folder(run, spec), METRICS) for spec in specs]


def results(tasks: Sequence[Task]) -> list[bytes]:
    """All that must not depend on where and how the jobs ran."""
    return [(task.folder / name).read_bytes() for task in tasks for name in RESULTS]


@dataclass
class Disturbed:
    """Tasks, and one who waits for a checkpoint and then does something to what runs them."""

    tasks: list[Task]
    notes: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    step: int = -1
    """of the newest checkpoint when it was disturbed"""

    @property
    def run(self) -> Path:
        return self.tasks[0].folder.parent.parent

    def report(self, event: Event) -> None:
        """What launchers tell."""
        if event.kind == "note":
            self.notes.append(event.text)
        elif event.kind == "end":
            self.ended.append(event.status)

    def by(self, disturb: Callable[[], None]) -> threading.Thread:
        """Start waiting for the first checkpoint; join the thread after the run."""
        thread = threading.Thread(target=self._wait_and, args=(disturb,), daemon=True)
        thread.start()
        return thread

    def _wait_and(self, disturb: Callable[[], None]) -> None:
        while not (steps := self._steps()):
            time.sleep(0.05)
        self.step = max(steps)
        disturb()

    def _steps(self) -> list[int]:
        folders = [task.folder for task in self.tasks]
        return [int(p.stem.rpartition("-")[2]) for folder in folders for p in folder.glob(CHECKPOINTS)]

    def assert_unharmed(self, undisturbed: list[bytes]) -> None:
        """It was really disturbed in the middle, and everything ended with the same bytes."""
        assert 0 < self.step < STEPS
        assert self.ended == ["finished"] * len(self.tasks)
        manifests = [read_manifest(task.folder) for task in self.tasks]
        assert [manifest and manifest.status for manifest in manifests] == ["finished"] * len(self.tasks)
        assert results(self.tasks) == undisturbed
