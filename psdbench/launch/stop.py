"""SIGINT and SIGTERM as a wish to stop after the step and a checkpoint. A second Ctrl-C is obeyed at once."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

STOPPING = "stopping after this step; press Ctrl-C again to leave at once\n"


class StopRequest:
    """While entered, remembers the first signal instead of dying of it; `number` is None until one comes."""

    def __init__(
        self, signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM), message: str = ""
    ) -> None:
        self.number: int | None = None
        self._signals, self._message = signals, message.encode()
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in self._signals:
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            os.write(2, self._message)  # unlike print, safe inside a signal handler
        if signal.SIGINT in self._signals:
            signal.signal(signal.SIGINT, signal.default_int_handler)
