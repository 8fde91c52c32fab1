"""Snapshots: how an asset looks on its way, so that quality can be drawn against compute.

A snapshot is a folder `snapshots/STEP/` of a job, laid out as the job's own: the views of the evaluation rig, what
has been spent so far, and later the scores. It is no part of the job's identity, for it changes nothing: it draws
no random number, touches no state, and its time is not counted. The files belong to the stages `optimize` and
`score`, whose records seal them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.job.stages import COST, look_together, score, stored_views, unscored
from psdbench.store import atomic
from psdbench.store.manifest import QUARANTINE
from psdbench.store.table import SCORES

if TYPE_CHECKING:
    from psdbench.job import Models, Task, Watch
    from psdbench.optimizer.loop import Optimisation

SNAPSHOTS = "snapshots"
SHARE = "share"
"""entry of a snapshot's cost.json: the part of the job's length after which it was due, in (0, 1)"""


@dataclass
class Snapshots:
    """Takes `count` snapshots of a job, at even parts of its length before the end: of 4, after 20, 40, 60, 80 %."""

    count: int
    folder: Path
    """of the job"""
    due: int = 0
    """how many should be there by now"""

    def begin(self, run: Optimisation) -> None:
        """Start with a new or resumed job; damaged snapshots and those of steps that are done again are dropped."""
        for path in taken(self.folder):
            if int(path.name) > run.index or any(path.rglob(QUARANTINE)):
                shutil.rmtree(path)
        self.due = self._due(run)

    def take(self, run: Optimisation) -> None:
        """Take a snapshot if one is due after the step just done; the end of the job is its own picture."""
        due = self._due(run)
        if due > self.due and not run.at_end:
            run.clock.lap("rest")
            self._write(run, due / (self.count + 1))
            run.clock.skip()
        self.due = due

    @property
    def files(self) -> list[str]:
        """The names of all files, relative to the job folder."""
        return [name for path in taken(self.folder) for name in _names(path, self.folder)]

    def _due(self, run: Optimisation) -> int:
        return int((self.count + 1) * run.spent / run.budget.amount + 1e-9)

    def _write(self, run: Optimisation, share: float) -> None:
        """Views first, cost last: a snapshot without it has not happened."""
        from psdbench.job.evaluate import rig_views, write_renders

        place = self.folder / SNAPSHOTS / f"{run.index:06d}"
        if place.exists():
            shutil.rmtree(place)
        write_renders(place, rig_views(run.particles[0].asset, run.spec.protocol))
        spent = {**asdict(run.prior.counters), "seconds": sum(run.clock.seconds.values()), "steps": run.index}
        atomic.write_json(place / COST, {**spent, SHARE: round(share, 6)})


def taken(folder: Path) -> list[Path]:
    """The complete snapshots of a job folder, in their order."""
    return sorted(
        path.parent for path in (folder / SNAPSHOTS).glob(f"*/{COST}") if path.parent.name.isdecimal()
    )


def _names(path: Path, folder: Path) -> Sequence[str]:
    files = [path / COST, *sorted((path / "renders").iterdir())]
    return [file.relative_to(folder).as_posix() for file in files]


def snapshots_unscored(task: Task, models: Models) -> bool:
    """Whether a snapshot lacks one of the task's metrics."""
    return any(unscored(path, task.metrics, models) for path in taken(task.folder))


def score_snapshots(task: Task, models: Models, watch: Watch) -> Iterator[str]:
    """Score every snapshot with the metrics that it lacks, as the job itself is scored; the names of the files."""
    for path in taken(task.folder):
        part = replace(task, folder=path)
        if unscored(path, task.metrics, models):
            views = stored_views(part)
            look_together([(part, views)], models, watch)
            score(part, views, models, watch, task.folder)
        if (path / SCORES).exists():
            yield (path / SCORES).relative_to(task.folder).as_posix()
