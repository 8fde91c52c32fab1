"""Progress on stderr: a live table on a terminal, else one line per event."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from psdbench.cli.output import duration, printable, say
from psdbench.job import Event, Task

if TYPE_CHECKING:
    from rich.table import Table

LINE_EVERY = 30.0
"""seconds between two lines about the steps of one job"""


class Display(Protocol):
    """Where events are shown."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...


def make_display(tasks: Sequence[Task], quiet: bool) -> Display:
    """A table on a terminal, lines otherwise, nothing with `quiet`."""
    if quiet:
        return Silence()
    kinds = {task.folder.name: task.spec.label for task in tasks}
    plain = not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or "CI" in os.environ
    return Lines(kinds) if plain else LiveTable(kinds)


class Silence:
    """Shows notes only: they tell of damage."""

    def show(self, event: Event) -> None:
        if event.kind == "note":
            say(event.text)

    def close(self) -> None:
        return


@dataclass
class Running:
    """A job at work: its last step, and when and where it was first seen, and first seen stepping."""

    kind: str
    began: float
    step: int = 0
    """0 while it loads"""
    steps: int = 0
    """as many as are expected, 0 while that is not known: under a budget, before the second step"""
    since: float = 0.0
    first: int = 0
    shown: float = 0.0

    def stepped(self, event: Event) -> None:
        """Take in a step."""
        if not self.step:
            self.since, self.first = time.monotonic(), event.step
        self.step, self.steps = event.step, event.steps

    @property
    def rate(self) -> float:
        """Steps per second, 0 before the second step."""
        elapsed = time.monotonic() - self.since
        return (self.step - self.first) / elapsed if self.step > self.first and elapsed > 0 else 0.0

    @property
    def share(self) -> float:
        """How much of it is done, in [0, 1]."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    @property
    def place(self) -> str:
        """``3/300``, or ``3`` while the end is not known."""
        return f"{self.step}/{self.steps}" if self.steps else f"{self.step}"

    @property
    def state(self) -> str:
        """What it does: loading, stepping or, after the last step, scoring."""
        if not self.step:
            return "loading"
        return self.place if self.step < self.steps or not self.steps else "scoring"


class Tally:
    """What the events of a run add up to; `kinds` are the methods of its jobs, which differ in how long they take."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.jobs = len(kinds)
        self.waiting = dict(kinds)
        self.running: dict[str, Running] = {}
        self.ended: Counter[str] = Counter()
        self.took: dict[str, list[float]] = {}
        """seconds of whole jobs by kind"""
        self.at_once = 0
        """the most jobs that were seen running together"""

    def settled(self, event: Event) -> None:
        """Count a job that was done before."""
        self.waiting.pop(event.job, None)
        self.ended[event.status] += 1

    def count(self, event: Event) -> Running:
        """Take in an event of a job; returns what is known of it."""
        seen = event.job in self.running
        if not seen:
            self.running[event.job] = Running(self.waiting.pop(event.job, ""), time.monotonic())
            self.at_once = max(self.at_once, len(self.running))
        job = self.running[event.job]
        if event.kind == "step":
            job.stepped(event)
        elif event.kind == "end":
            self.ended[event.status] += 1
            self.running.pop(event.job)
            from_its_start = seen and job.first <= 1  # not from a checkpoint
            if from_its_start and event.status == "finished":
                self.took.setdefault(job.kind, []).append(time.monotonic() - job.began)
        return job

    @property
    def done(self) -> int:
        return self.ended.total()

    def seconds_left(self) -> float | None:
        """A forecast, None before there is one.

        A kind of job takes as long as those that have ended, else as it looks by the speed of one that runs; a
        kind that was not seen yet, as long as the others on average.
        """
        seconds = {job.kind: job.steps / job.rate for job in self.running.values() if job.rate and job.steps}
        seconds |= {kind: fmean(took) for kind, took in self.took.items()}
        if not seconds:
            return None
        usual = fmean(seconds.values())
        waiting = sum(seconds.get(kind, usual) for kind in self.waiting.values())
        inside = sum(seconds.get(job.kind, usual) * (1 - job.share) for job in self.running.values())
        at_once = min(self.at_once, len(self.waiting) + len(self.running))
        return (waiting + inside) / max(1, at_once)

    def headline(self) -> str:
        """``3/24 jobs · 2 finished · 1 diverged · 12 min left``."""
        left = self.seconds_left()
        states = [f"{count} {status}" for status, count in sorted(self.ended.items())]
        return " · ".join(
            [
                f"{self.done}/{self.jobs} jobs",
                *states,
                *([f"{duration(left)} left"] if left is not None else []),
            ]
        )


def ending(event: Event) -> str:
    """``JOB: diverged (NaN in the loss)``."""
    return f"{event.job}: {event.status}{f' ({event.text})' if event.text else ''}"


class Lines:
    """One line per event, and now and then one about a running job."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.tally = Tally(kinds)
        self.told = False
        """whether the jobs that were done before have been told of"""

    def show(self, event: Event) -> None:
        if event.kind == "note":
            say(event.text)
            return
        if event.kind == "settled":
            self.tally.settled(event)
            return
        self._tell_settled()
        job = self.tally.count(event)
        if event.kind == "start":
            say(f"{event.job}: started")
            job.shown = time.monotonic()
        elif event.kind == "end":
            say(f"{ending(event)} · {self.tally.headline()}")
        elif time.monotonic() - job.shown > LINE_EVERY:
            job.shown = time.monotonic()
            say(f"{event.job}: step {job.place}, {job.rate:.1f} steps/s · {self.tally.headline()}")

    def _tell_settled(self) -> None:
        """One line for each state, once all of them have been looked at."""
        for status, count in () if self.told else sorted(self.tally.ended.items()):
            say(f"{count} of {self.tally.jobs} jobs were {status} before")
        self.told = True

    def close(self) -> None:
        self._tell_settled()


class LiveTable:
    """A table of the running jobs with step, rate and time left, redrawn in place."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self.tally = Tally(kinds)
        self.live = Live(
            console=Console(stderr=True), get_renderable=self.table, refresh_per_second=4, transient=True
        )
        self.live.start()

    def show(self, event: Event) -> None:
        if event.kind == "note":
            self._print(event.text)
            return
        if event.kind == "settled":
            self.tally.settled(event)
            return
        self.tally.count(event)
        if event.kind == "end" and event.status != "finished":
            self._print(ending(event))

    def table(self) -> Table:
        """The present state."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.tally.headline(), title_justify="left", expand=False)
        table.add_column("job", overflow="ellipsis", no_wrap=True)
        for name in ("step", "steps/s", "left"):
            table.add_column(name, justify="right")
        for name, job in self.tally.running.items():
            left = duration(max(0, job.steps - job.step) / job.rate) if job.rate and job.steps else ""
            table.add_row(Text(printable(name)), job.state, f"{job.rate:.1f}" if job.rate else "", left)
        return table

    def _print(self, text: str) -> None:
        from rich.text import Text

        self.live.console.print(Text(printable(text)))

    def close(self) -> None:
        self.live.stop()
        self._print(self.tally.headline())
