"""Signals as a wish to stop after the step and a checkpoint. A second Ctrl-C is obeyed at once.

SIGINT and SIGTERM come from people and systems, SIGUSR1 and SIGUSR2 from schedulers that announce an end
(``sbatch --signal``), SIGALRM from our own clock when the time of --max-time is over. They only save time:
what a run never loses is in its periodic checkpoints.
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
STOPPING = "stopping after this step; press Ctrl-C again to leave at once\n"


class StopRequest:
    """While entered, remembers the first signal instead of dying of it; `number` is None until one comes.

    After `seconds`, if given, it is as if SIGALRM had come.
    """

    def __init__(
        self,
        signals: tuple[signal.Signals, ...] = SIGNALS,
        message: str = "",
        seconds: float | None = None,
    ) -> None:
        self.number: int | None = None
        self._signals, self._message, self._seconds = signals, message.encode(), seconds
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in self._signals:
            self._before[number] = signal.signal(number, self._remember)
        if self._seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            os.write(2, self._message)  # unlike print, safe inside a signal handler
        if signal.SIGINT in self._signals:
            signal.signal(signal.SIGINT, signal.default_int_handler)
