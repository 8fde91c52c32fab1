"""A worker process: its models are loaded once, jobs come and outcomes go through a pipe.

Messages to the parent are Event, the outcomes of the jobs that were sent together, or a PsdbenchError that ends
the run.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection

from psdbench.errors import Interrupted, PsdbenchError
from psdbench.job import Event, Models, Watch, execute
from psdbench.launch.backlog import Pack
from psdbench.launch.notes import forwarded_warnings
from psdbench.launch.stop import StopRequest
from psdbench.launch.threads import set_threads


def serve(connection: Connection, device: str, parent: int) -> None:
    """Execute the tasks that arrive until the parent closes the pipe, sends None or dies."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # these reach the whole group; the parent passes them on
    set_threads(device)
    models = Models(device)
    with (
        StopRequest((signal.SIGTERM,)) as stop,
        forwarded_warnings(lambda text: connection.send(Event("note", "", text=text))),
    ):
        watch = Watch(connection.send, lambda: stop.number or _orphaned(parent))
        try:
            while pack := _receive(connection, watch):
                connection.send(execute(pack, models, watch))
        except (Interrupted, EOFError, BrokenPipeError):
            return
        except PsdbenchError as error:
            connection.send(error)


def _receive(connection: Connection, watch: Watch) -> Pack | None:
    """The next tasks, None when there will be none; raises Interrupted and EOFError."""
    while not connection.poll(0.5):
        watch.check()
    received: Pack | None = connection.recv()
    return received


def _orphaned(parent: int) -> int:
    """SIGTERM when the parent has died, for then nobody would stop us; else 0."""
    return signal.SIGTERM if os.getppid() != parent else 0
