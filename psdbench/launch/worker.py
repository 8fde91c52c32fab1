"""A worker process: its models are loaded once, jobs come and outcomes go through a pipe.

Messages to the parent are Event, Outcome, or a PsdbenchError that ends the run.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection

from psdbench.errors import Interrupted, PsdbenchError
from psdbench.job import Event, Models, Task, Watch, execute
from psdbench.launch.notes import forward_warnings
from psdbench.launch.stop import StopRequest
from psdbench.launch.threads import set_threads


def serve(connection: Connection, device: str, parent: int) -> None:
    """Execute the tasks that arrive until the parent closes the pipe, sends None or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
    set_threads(device)
    models = Models(device)
    with StopRequest((signal.SIGTERM,)) as stop:

        def should_stop() -> int:
            return stop.number or (signal.SIGTERM if os.getppid() != parent else 0)

        watch = Watch(connection.send, should_stop)
        forward_warnings(lambda text: connection.send(Event("note", "", text=text)))
        try:
            while (task := _receive(connection, should_stop)) is not None:
                connection.send(execute(task, models, watch))
        except Interrupted:
            return
        except PsdbenchError as error:
            connection.send(error)
        except BrokenPipeError:
            return


def _receive(connection: Connection, should_stop: object) -> Task | None:
    """The next task; None when there will be none."""
    assert callable(should_stop)
    while not connection.poll(0.5):
        if should_stop():
            return None
    try:
        received: Task | None = connection.recv()
    except EOFError:
        return None
    return received
