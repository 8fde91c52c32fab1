"""Snapshots: how an asset looks on its way, so that quality can be drawn against compute.

A snapshot is a folder `snapshots/STEP/` of a job, laid out as the job's own: the views of the evaluation rig, what
has been spent so far, and later the scores. It is no part of the job's identity, for it changes nothing: it draws
no random number, touches no state, and its time is not counted. The files belong to the stages `optimize` and
`score`, whose records seal them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.store import atomic
from psdbench.store.manifest import QUARANTINE
from psdbench.store.table import COST, SHARE, SNAPSHOTS

if TYPE_CHECKING:
    from psdbench.optimizer.loop import Optimisation


@dataclass
class Snapshots:
    """Takes `count` snapshots of a job, at even parts of its length before the end: of 4, after 20, 40, 60, 80 %."""

    folder: Path
    """of the job"""
    count: int = 0
    draw: Callable[[Path, Optimisation], None] = lambda place, run: None
    """writes the views of the asset as it is into the folder of a snapshot"""
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
        # a job whose budget ends before each of its particles has had a step goes on beyond it
        return min(self.count, int((self.count + 1) * run.spent / run.budget.amount + 1e-9))

    def _write(self, run: Optimisation, share: float) -> None:
        """Views first, cost last: a snapshot without it has not happened."""
        place = self.folder / SNAPSHOTS / f"{run.index:06d}"
        if place.exists():
            shutil.rmtree(place)
        self.draw(place, run)
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
