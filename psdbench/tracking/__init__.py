"""A mirror of a run in Weights & Biases or TensorBoard: never the truth, and never in the way.

A process of its own copies what each job has left in its folder once the job has ended, and at the end those that
it has missed in earlier runs of the command. Whatever goes wrong there, an outage, a missing key, a crash, stays
there: no job waits for it or fails with it. Only what `trackers.facts` lists is shown, and nothing of the command
line or the environment. W&B works offline unless WANDB_MODE says otherwise, and goes on offline when its server
does not answer; `wandb sync RUN/wandb/*` uploads later.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from psdbench.cli.output import say
from psdbench.errors import CorruptResult, EnvironmentProblem
from psdbench.job import Event
from psdbench.store.run import JOBS, job_folders
from psdbench.store.table import read_result
from psdbench.tracking.trackers import TRACKERS, Tracker, facts

PATIENCE = 120.0
"""seconds that the mirror may take for one job once all are done"""
PATIENCE_STOPPED = 2.0
"""the same when a signal has stopped the run: whoever sent it may not wait long"""
NICENESS = 10
"""by so much the mirror gives way to the jobs"""


class Mirror:
    """The process that mirrors, as the one that runs jobs sees it."""

    def __init__(self, tracker: str, run: Path) -> None:
        if find_spec(tracker) is None:
            raise EnvironmentProblem(
                f"--track {tracker} needs the package '{tracker}'", f"pip install {tracker}, or leave it out"
            )
        context = multiprocessing.get_context("spawn")
        self.queue, self.done = context.Queue(), context.Value("i", 0)
        given = (self.queue, self.done, tracker, run.resolve())
        self.process = context.Process(target=serve, args=given, daemon=True)
        self.tracker = tracker

    def __enter__(self) -> Mirror:
        self.process.start()
        return self

    def tell(self, event: Event) -> None:
        """Pass on that a job has ended; returns at once."""
        if event.kind == "end":
            self.queue.put(event.job)

    def __exit__(self, kind: object, *error: object) -> None:
        self.queue.put(None)
        before, patience = -1, PATIENCE if kind is None else PATIENCE_STOPPED
        while self.process.is_alive() and self.done.value > before:
            before = self.done.value
            self.process.join(timeout=patience)
        if self.process.exitcode != 0:
            say(f"note: {self.tracker} did not get everything; the results are in the run folder")
            self.process.kill()
        self.queue.cancel_join_thread()


def serve(queue: Any, done: Any, tracker: str, run: Path) -> None:
    """Mirror jobs by folder name until None arrives, then those that were missed, then the table.

    `done` counts what has been dealt with. An error costs what it hits, and is told once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    os.environ.setdefault("WANDB_SILENT", "true")
    sys.argv = ["psdbench"]  # trackers store it, and arguments are nobody's business
    mirror, told = TRACKERS[tracker](run), False
    for name in _names(queue, mirror, run):
        try:
            mirror.job(facts(run / JOBS / name)) if name else mirror.summary(comparison(run))
        except Exception as error:  # the mirror may break, the run goes on
            if not told:
                say(f"note: {tracker}: {type(error).__name__}: {error}")
            told = True
        done.value += 1


def _names(queue: Any, mirror: Tracker, run: Path) -> Iterator[str]:
    """The jobs to mirror by folder, then an empty name for the table."""
    yield from iter(queue.get, None)
    for folder in job_folders(run):
        try:
            spec, manifest = read_result(folder)
        except CorruptResult:
            continue  # the report names it
        if manifest and not mirror.has(spec.id, folder.name):
            yield folder.name
    yield ""


def comparison(run: Path) -> list[dict[str, Any]]:
    """The rows of the report's table."""
    from psdbench.report import build_report
    from psdbench.report.tables import table_rows

    return [row for part in build_report([run]).parts for row in table_rows(part)]
