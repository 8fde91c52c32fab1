"""Progress on stderr: a live table on a terminal, else one line per event."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from psdbench.cli.output import duration, printable, say
from psdbench.job import Event

if TYPE_CHECKING:
    from rich.table import Table

LINE_EVERY = 30.0
"""seconds between two lines about the steps of one job"""


class Display(Protocol):
    """Where events are shown."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...


def make_display(jobs: int, quiet: bool) -> Display:
    """A table on a terminal, lines otherwise, nothing with `quiet`."""
    if quiet:
        return Silence()
    plain = not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or "CI" in os.environ
    return Lines(jobs) if plain else LiveTable(jobs)


class Silence:
    """Shows notes only: they tell of damage."""

    def show(self, event: Event) -> None:
        if event.kind == "note":
            say(event.text)

    def close(self) -> None:
        return


@dataclass
class Running:
    """A job at work: its last step, and when and where it was first seen stepping."""

    step: int = 0
    """0 while it loads"""
    steps: int = 0
    """as many as are expected, 0 while that is not known: under a budget, before the second step"""
    since: float = 0.0
    first: int = 0
    shown: float = 0.0

    @property
    def rate(self) -> float:
        """Steps per second, 0 before the second step."""
        elapsed = time.monotonic() - self.since
        return (self.step - self.first) / elapsed if self.step > self.first and elapsed > 0 else 0.0

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


@dataclass
class Tally:
    """What the events of a run add up to."""

    jobs: int
    ended: dict[str, int] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    steps_a_job: int = 0
    """as last expected of any job, 0 before that"""
    rate: float = 0.0
    """steps per second of all running jobs together, as last seen"""

    def settled(self, event: Event) -> None:
        """Count jobs that were done before."""
        self.ended[event.status] = self.ended.get(event.status, 0) + event.step

    def count(self, event: Event) -> Running:
        """Take in an event of a job; returns what is known of it."""
        job = self.running.setdefault(event.job, Running())
        if event.kind == "step":
            if not job.step:
                job.since, job.first = time.monotonic(), event.step
            job.step, job.steps = event.step, event.steps
            self.steps_a_job = event.steps or self.steps_a_job
        elif event.kind == "end":
            self.ended[event.status] = self.ended.get(event.status, 0) + 1
            self.running.pop(event.job)
        return job

    @property
    def done(self) -> int:
        return sum(self.ended.values())

    def seconds_left(self) -> float | None:
        """A forecast from the present speed, None before there is one.

        A job that does not know its own length yet, because it loads or has had one step of a budget, counts as
        long as the others.
        """
        self.rate = sum(job.rate for job in self.running.values() if job.step < job.steps) or self.rate
        if not self.rate or not self.steps_a_job:
            return None
        waiting = self.jobs - self.done - len(self.running)
        inside = sum(max(0, (job.steps or self.steps_a_job) - job.step) for job in self.running.values())
        return (waiting * self.steps_a_job + inside) / self.rate

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

    def __init__(self, jobs: int) -> None:
        self.tally = Tally(jobs)

    def show(self, event: Event) -> None:
        if event.kind == "note":
            say(event.text)
            return
        if event.kind == "settled":
            self.tally.settled(event)
            say(f"{event.step} of {self.tally.jobs} jobs were {event.status} before")
            return
        job = self.tally.count(event)
        if event.kind == "start":
            say(f"{event.job}: started")
            job.shown = time.monotonic()
        elif event.kind == "end":
            say(f"{ending(event)} · {self.tally.headline()}")
        elif time.monotonic() - job.shown > LINE_EVERY:
            job.shown = time.monotonic()
            say(f"{event.job}: step {job.place}, {job.rate:.1f} steps/s · {self.tally.headline()}")

    def close(self) -> None:
        return


class LiveTable:
    """A table of the running jobs with step, rate and time left, redrawn in place."""

    def __init__(self, jobs: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self.tally = Tally(jobs)
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
