"""Jobs of which only scores are missing, in this process: many at a time, so that each network sees many views."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from psdbench.batches import in_batches
from psdbench.job import Event, Models, Outcome, Task, Watch, execute
from psdbench.launch.notes import forwarded_warnings, quiet_libraries
from psdbench.launch.stop import STOPPING, StopRequest


def run_together(
    tasks: Sequence[Task], models: Models, report: Callable[[Event], None], max_seconds: float | None = None
) -> list[Outcome]:
    """Execute tasks; so many at a time as have 64 views are in memory. Outcomes in the order of the tasks.

    Raises Interrupted after a signal or `max_seconds`, and EnvironmentProblem.
    """
    quiet_libraries()

    def note(text: str) -> None:
        report(Event("note", "", text=text))

    with StopRequest(message=STOPPING, seconds=max_seconds) as stop, forwarded_warnings(note):
        watch, outcomes = Watch(report, lambda: stop.number or 0), list[Outcome]()
        for batch in in_batches(tasks, _views):
            watch.check()
            ended = execute(batch, models, watch)
            for outcome in ended:
                report(Event("end", outcome.job, status=outcome.status, text=outcome.reason))
            outcomes += ended
        return outcomes


def _views(task: Task) -> int:
    """How many views a job has."""
    spec = task.spec
    return len(spec.foreign.files) if spec.foreign else spec.protocol.cameras.rig_views + 1
