"""The local launcher: in this process with one worker, else one long-lived spawned process per worker.

A worker that dies is replaced and its job tried again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from psdbench.errors import PsdbenchError
from psdbench.job import Event, Models, Outcome, Task, Watch, commit_lost, execute, settle
from psdbench.launch.backlog import BUSY_PAUSE, MAX_ATTEMPTS, Backlog
from psdbench.launch.notes import forwarded_warnings, quiet_libraries
from psdbench.launch.stop import STOPPING, StopRequest
from psdbench.launch.threads import cores, max_workers, set_threads, threads_per_worker
from psdbench.launch.worker import serve

STOP_SECONDS = 120.0
"""how long a worker may take to finish its step and write a checkpoint"""
Report = Callable[[Event], None]


def run_jobs(
    tasks: Sequence[Task], workers: int, device: str, report: Report, max_seconds: float | None = None
) -> list[Outcome]:
    """Execute tasks; what is done already is only verified. Outcomes come in the order of ending.

    Raises Interrupted after a signal or `max_seconds`, when all work is in checkpoints, and EnvironmentProblem.
    """
    quiet_libraries()
    if device == "cpu" and workers > max_workers():
        text = f"{workers} workers x {threads_per_worker()} threads exceed {cores()} cores: {max_workers()} workers"
        report(Event("note", "", text=text))
        workers = max_workers()

    def note(text: str) -> None:
        report(Event("note", "", text=text))

    with StopRequest(message=STOPPING, seconds=max_seconds) as stop, forwarded_warnings(note):
        watch, models = Watch(report, lambda: stop.number or 0), Models(device)
        outcomes, open_tasks = settle_all(tasks, models, watch)
        workers = min(workers, len(open_tasks))
        if workers <= 1:
            return outcomes + _run_here(open_tasks, models, watch)
        return outcomes + Pool(workers, device, watch).run(open_tasks)


def settle_all(tasks: Sequence[Task], models: Models, watch: Watch) -> tuple[list[Outcome], list[Task]]:
    """The outcomes of the tasks that are done already, which is reported, and the tasks that are not."""
    outcomes, open_tasks = list[Outcome](), list[Task]()
    for task in tasks:
        watch.check()
        done = settle(task, models, watch)
        outcomes.append(done) if done else open_tasks.append(task)
    for status, count in Counter(outcome.status for outcome in outcomes).items():
        watch.report(Event("settled", "", step=count, status=status))
    return outcomes, open_tasks


def _run_here(tasks: Sequence[Task], models: Models, watch: Watch) -> list[Outcome]:
    set_threads(models.device)
    backlog, outcomes = Backlog(tasks), list[Outcome]()
    while len(backlog):
        watch.check()
        if (task := backlog.take()) is None:
            time.sleep(BUSY_PAUSE / 4)
            continue
        outcome = execute(task, models, watch)
        if _ended(outcome, task, backlog, watch):
            outcomes.append(outcome)
    return outcomes


def _ended(outcome: Outcome, task: Task, backlog: Backlog, watch: Watch) -> bool:
    """Report an outcome; False when the task has to be looked at again."""
    if outcome.status == "busy":
        if backlog.wait_for(task):
            watch.report(Event("note", outcome.job, text=f"{outcome.job}: another process does it; waiting"))
        return False
    watch.report(Event("end", outcome.job, status=outcome.status, text=outcome.reason))
    return True


@dataclass
class Worker:
    """A process, the pipe to it, and what it is doing."""

    process: SpawnProcess
    connection: Connection
    task: Task | None = None


class Pool:
    """Worker processes and the tasks they share."""

    def __init__(self, count: int, device: str, watch: Watch) -> None:
        self.count, self.device, self.watch = count, device, watch
        self.outcomes: list[Outcome] = []
        self.workers: list[Worker] = []

    def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Execute all tasks; see `run_jobs`."""
        self.backlog = Backlog(tasks)
        try:
            while len(self.backlog) or any(worker.task for worker in self.workers):
                self.watch.check()
                self._hand_out()
                self._listen()
            return self.outcomes
        except KeyboardInterrupt:
            for worker in self.workers:
                worker.process.kill()
            raise
        finally:
            self._stop()

    def _hand_out(self) -> None:
        idle = [worker for worker in self.workers if worker.task is None]
        while len(self.backlog) and (idle or len(self.workers) < self.count):
            if (task := self.backlog.take()) is None:
                return
            worker = idle.pop() if idle else self._start()
            worker.task = task
            try:
                worker.connection.send(task)
            except OSError:
                self._replace(worker)

    def _start(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self.device, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(Worker(process, ours))
        return self.workers[-1]

    def _listen(self) -> None:
        ready = wait([worker.connection for worker in self.workers], timeout=0.5)
        for worker in [worker for worker in self.workers if worker.connection in ready]:
            try:
                self._take_in(worker, worker.connection.recv())
            except (EOFError, OSError):
                self._replace(worker)

    def _take_in(self, worker: Worker, message: Event | Outcome | PsdbenchError) -> None:
        if isinstance(message, PsdbenchError):
            raise message
        if isinstance(message, Event):
            self.watch.report(message)
            return
        assert worker.task is not None
        task, worker.task = worker.task, None
        if _ended(message, task, self.backlog, self.watch):
            self.outcomes.append(message)

    def _replace(self, worker: Worker) -> None:
        """A worker has died: another one will be started, and its task is tried again, but not for ever."""
        worker.process.join(timeout=10)
        how = _death(worker.process.exitcode)
        self.workers.remove(worker)
        worker.connection.close()
        if (task := worker.task) is None:
            return
        if self.backlog.lost(task):
            self.watch.report(
                Event("note", task.folder.name, text=f"{task.folder.name}: its worker {how}; again")
            )
            return
        outcome = commit_lost(task, f"its worker {how}, {MAX_ATTEMPTS} times")
        _ended(outcome, task, self.backlog, self.watch)
        self.outcomes.append(outcome)

    def _stop(self) -> None:
        """Let every worker finish its step and write a checkpoint; those that do not leave are killed."""
        for worker in self.workers:
            if worker.task is None:
                with suppress(OSError):  # it has died, which is as good
                    worker.connection.send(None)
            elif worker.process.is_alive():
                worker.process.terminate()
        for worker in self.workers:
            self._drain(worker)

    def _drain(self, worker: Worker) -> None:
        """Wait for a worker's end while reading what it still says, so that it cannot block on the pipe."""
        deadline = time.monotonic() + STOP_SECONDS
        while worker.process.is_alive() and time.monotonic() < deadline:
            try:
                if not worker.connection.closed and worker.connection.poll(0.1):
                    worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join(timeout=1)
            else:
                worker.process.join(timeout=0.05)
        if worker.process.is_alive():
            worker.process.kill()
        worker.process.join()


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"was killed by {signal.Signals(-exitcode).name}"
    return f"ended with exit code {exitcode}"
