"""The local launcher: in this process with one worker, else one long-lived spawned process per worker.

A worker that dies is replaced and its jobs tried again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from psdbench.errors import PsdbenchError
from psdbench.job import Event, Models, Outcome, Task, Watch, commit_lost, execute, settle
from psdbench.launch.backlog import BUSY_PAUSE, MAX_ATTEMPTS, Backlog, Pack
from psdbench.launch.notes import forwarded_warnings, quiet_libraries
from psdbench.launch.stop import STOPPING, StopRequest
from psdbench.launch.threads import cores, max_workers, set_threads, threads_per_worker
from psdbench.launch.worker import serve

STOP_SECONDS = 120.0
"""how long a worker may take to finish its step and write a checkpoint"""
Report = Callable[[Event], None]


def run_jobs(
    tasks: Sequence[Task],
    workers: int,
    device: str,
    report: Report,
    max_seconds: float | None = None,
    pack: int = 1,
) -> list[Outcome]:
    """Execute tasks, `pack` at a time in lockstep in each worker; what is done already is only verified.

    Outcomes come in the order of ending.

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
        backlog = Backlog(open_tasks, pack)
        workers = min(workers, len(backlog))
        if workers <= 1:
            return outcomes + _run_here(backlog, models, watch)
        return outcomes + Pool(workers, device, watch).run(backlog)


def settle_all(tasks: Sequence[Task], models: Models, watch: Watch) -> tuple[list[Outcome], list[Task]]:
    """The outcomes of the tasks that are done already, which is reported, and the tasks that are not."""
    outcomes, open_tasks = list[Outcome](), list[Task]()
    for task in tasks:
        watch.check()
        if done := settle(task, models, watch):
            outcomes.append(done)
            watch.report(Event("settled", task.folder.name, status=done.status))
        else:
            open_tasks.append(task)
    return outcomes, open_tasks


def _run_here(backlog: Backlog, models: Models, watch: Watch) -> list[Outcome]:
    set_threads(models.device)
    outcomes = list[Outcome]()
    while len(backlog):
        watch.check()
        if (pack := backlog.take()) is None:
            time.sleep(BUSY_PAUSE / 4)
            continue
        outcomes += ended(execute(pack, models, watch), pack, backlog, watch)
    return outcomes


def ended(outcomes: Sequence[Outcome], pack: Pack, backlog: Backlog, watch: Watch) -> list[Outcome]:
    """Report the outcomes of a pack, and return them without those of tasks that have to be looked at again."""
    final = []
    for outcome, task in zip(outcomes, pack, strict=True):
        if outcome.status != "busy":
            watch.report(Event("end", outcome.job, status=outcome.status, text=outcome.reason))
            final.append(outcome)
        elif backlog.wait_for(task):
            watch.report(Event("note", outcome.job, text=f"{outcome.job}: another process does it; waiting"))
    return final


def again(pack: Pack, why: str, backlog: Backlog, watch: Watch) -> list[Outcome]:
    """Put what a dead worker was doing back into the queue; the outcomes of tasks that are given up."""
    given_up = backlog.lost(pack)
    for task in pack:
        if task not in given_up:
            watch.report(Event("note", task.folder.name, text=f"{task.folder.name}: {why}; again"))
    outcomes = [commit_lost(task, f"{why}, {MAX_ATTEMPTS} times") for task in given_up]
    return ended(outcomes, tuple(given_up), backlog, watch)


@dataclass
class Worker:
    """A process, the pipe to it, and what it is doing."""

    process: SpawnProcess
    connection: Connection
    pack: Pack = ()


class Pool:
    """Worker processes and the tasks they share."""

    def __init__(self, count: int, device: str, watch: Watch) -> None:
        self.count, self.device, self.watch = count, device, watch
        self.outcomes: list[Outcome] = []
        self.workers: list[Worker] = []

    def run(self, backlog: Backlog) -> list[Outcome]:
        """Execute all tasks; see `run_jobs`."""
        self.backlog = backlog
        try:
            while len(self.backlog) or any(worker.pack for worker in self.workers):
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
        idle = [worker for worker in self.workers if not worker.pack]
        while len(self.backlog) and (idle or len(self.workers) < self.count):
            if (pack := self.backlog.take()) is None:
                return
            worker = idle.pop() if idle else self._start()
            worker.pack = pack
            try:
                worker.connection.send(pack)
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

    def _take_in(self, worker: Worker, message: Event | list[Outcome] | PsdbenchError) -> None:
        if isinstance(message, PsdbenchError):
            raise message
        if isinstance(message, Event):
            self.watch.report(message)
            return
        pack, worker.pack = worker.pack, ()
        self.outcomes += ended(message, pack, self.backlog, self.watch)

    def _replace(self, worker: Worker) -> None:
        """A worker has died: another one will be started, and its tasks are tried again, but not for ever."""
        worker.process.join(timeout=10)
        how = _death(worker.process.exitcode)
        self.workers.remove(worker)
        worker.connection.close()
        if worker.pack:
            self.outcomes += again(worker.pack, f"its worker {how}", self.backlog, self.watch)

    def _stop(self) -> None:
        """Let every worker finish its step and write a checkpoint; those that do not leave are killed."""
        for worker in self.workers:
            if not worker.pack:
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
