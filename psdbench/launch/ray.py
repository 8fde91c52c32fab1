"""The Ray launcher: actors that keep their models, one job at a time each, on this machine or a cluster.

The run folder must be one that all machines see. An actor that dies is replaced and its job tried again; a job's
progress is told from its checkpoints, its end by the actor.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from psdbench.errors import EnvironmentProblem, Interrupted, PsdbenchError
from psdbench.job import Event, Models, Outcome, Task, Watch, execute
from psdbench.launch.backlog import Backlog, Pack
from psdbench.launch.local import STOP_SECONDS, again, ended, settle_all
from psdbench.launch.notes import forwarded_warnings, quiet_libraries
from psdbench.launch.observed import Observed
from psdbench.launch.options import RayOptions
from psdbench.launch.stop import SIGNALS, STOPPING, StopRequest
from psdbench.launch.threads import set_threads, threads_per_worker

POLL_SECONDS = 1.0
PROBE_SECONDS = 10.0


class JobActor:
    """Lives in a process of Ray's: its models are loaded once. Two threads: one works, one hears of a stop."""

    def __init__(self, device: str, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        quiet_libraries()
        self.models, self.stopping, self.notes = Models(device), 0, list[str]()

    def execute(self, pack: Pack) -> tuple[list[Outcome] | PsdbenchError, list[str]]:
        """How the jobs ended, or what ends the run; and what was noted on the way."""
        set_threads(self.models.device)  # of this thread, and jobs may get either of the two
        notes = list[str]()

        def report(event: Event) -> None:
            if event.kind == "note":
                notes.append(event.text)

        with forwarded_warnings(notes.append):
            try:
                return execute(pack, self.models, Watch(report, lambda: self.stopping)), notes
            except PsdbenchError as error:
                return error, notes

    def stop(self, signal_number: int) -> None:
        """Leave the job after its step and a checkpoint."""
        self.stopping = signal_number


@dataclass
class RayRun:
    """Jobs on Ray."""

    options: RayOptions
    workers: int
    device: str
    pack: int = 1
    """jobs that an actor optimises in lockstep"""
    busy: dict[Any, tuple[Any, Pack]] = field(default_factory=dict)
    """by the reference of the result: the actor and its jobs"""
    idle: list[Any] = field(default_factory=list)

    def run(
        self, tasks: Sequence[Task], report: Callable[[Event], None], max_seconds: float | None = None
    ) -> list[Outcome]:
        """Execute tasks; outcomes in the order of ending. Raises Interrupted and EnvironmentProblem."""
        quiet_libraries()
        require_ray()
        with (
            StopRequest(message=STOPPING, seconds=max_seconds) as stop,
            forwarded_warnings(lambda text: report(Event("note", "", text=text))),
        ):
            watch = Watch(report, lambda: stop.number or 0)
            tasks = [replace(task, folder=task.folder.resolve()) for task in tasks]
            outcomes, open_tasks = settle_all(tasks, Models(self.device), watch)
            if not open_tasks:
                return outcomes
            with connected(self.options, self._resources()["num_cpus"] * self.workers):
                return outcomes + self._work(open_tasks, watch)

    def _work(self, tasks: Sequence[Task], watch: Watch) -> list[Outcome]:
        import ray

        outcomes, backlog, observed = list[Outcome](), Backlog(tasks, self.pack), Observed(watch.report)
        try:
            while len(backlog) or self.busy:
                watch.check()
                self._hand_out(backlog)
                for task in [task for _, pack in self.busy.values() for task in pack]:
                    observed.look(task)
                ready, _ = ray.wait(list(self.busy), timeout=POLL_SECONDS) if self.busy else ([], [])
                for reference in ready:
                    outcomes += self._take_in(reference, backlog, watch)
            return outcomes
        except Interrupted as error:
            self._stop(error.signal_number)
            raise

    def _hand_out(self, backlog: Backlog) -> None:
        import ray

        while len(backlog) and (self.idle or len(self.busy) < self.workers):
            if (pack := backlog.take()) is None:
                return
            if not self.idle:
                remote = ray.remote(JobActor).options(max_concurrency=2, **self._resources())
                self.idle.append(remote.remote(self.device, threads_per_worker()))
            actor = self.idle.pop()
            self.busy[actor.execute.remote(pack)] = actor, pack

    def _resources(self) -> dict[str, float]:
        gpus = self.options.gpus if self.options.gpus is not None else float(self.device == "cuda")
        return {"num_cpus": self.options.cpus or threads_per_worker(), "num_gpus": gpus}

    def _take_in(self, reference: Any, backlog: Backlog, watch: Watch) -> list[Outcome]:
        """The outcomes of jobs that are over; none of those that have to be done again."""
        import ray

        actor, pack = self.busy.pop(reference)
        try:
            outcomes, notes = ray.get(reference)
        except ray.exceptions.RayActorError as error:
            reason = str(error).strip().splitlines()[0]
            return again(pack, f"its actor died ({reason})", backlog, watch)
        for text in notes:
            watch.report(Event("note", pack[0].folder.name, text=text))
        if isinstance(outcomes, PsdbenchError):
            raise outcomes
        self.idle.append(actor)
        return ended(outcomes, pack, backlog, watch)

    def _stop(self, signal_number: int) -> None:
        """Let every actor finish its step and write a checkpoint."""
        import ray

        for actor, _ in self.busy.values():
            actor.stop.remote(signal_number)
        if self.busy:
            ray.wait(list(self.busy), num_returns=len(self.busy), timeout=STOP_SECONDS)


def require_ray() -> None:
    """EnvironmentProblem unless Ray is installed. It is told not to call home."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            "the ray launcher needs the package 'ray'", "pip install 'psdbench[ray]'"
        ) from error


@contextmanager
def connected(options: RayOptions, cpus: float) -> Iterator[None]:
    """Be connected to the cluster that is asked for, or to one of our own with so many cores for the time."""
    import ray

    own: dict[str, Any] = (
        {"num_cpus": int(-(-cpus // 1)), "include_dashboard": False} if options.address is None else {}
    )
    address = options.address or "local"
    try:
        probe(address)
        with _left_at_once():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EnvironmentProblem(
            f"no Ray at {options.address or 'this machine'}: {reason}",
            "start one with `ray start --head`, or leave the address out; one that asks for a token is reached "
            "with RAY_AUTH_MODE=token",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def probe(address: str) -> None:
    """OSError unless somebody listens at ``HOST:PORT`` or ``ray://HOST:PORT``: Ray would try for many minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS):
            return


@contextmanager
def _left_at_once() -> Iterator[None]:
    """Ctrl-C ends the block; after it all signals mean what they meant before: Ray sets handlers of its own."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
