"""SIGINT and SIGTERM as a wish to stop after the step and a checkpoint. A second Ctrl-C is obeyed at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class StopRequest:
    """While entered, remembers the first signal instead of dying of it; `number` is None until one comes."""

    def __init__(self, signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)) -> None:
        self.number: int | None = None
        self._signals = signals
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
        signal.signal(signal.SIGINT, signal.default_int_handler)
