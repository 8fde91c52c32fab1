"""Where the seconds of an optimisation go."""

from __future__ import annotations

import time

import torch

PARTS = ("render", "encode", "method", "backward", "adam", "rest")


class Stopwatch:
    """Seconds by part of a step: `lap(part)` books the time since the last lap, finished kernels included."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._cuda = device.type == "cuda"
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Book the time since the last lap."""
        if self._cuda:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now

    def skip(self) -> None:
        """Leave out the time since the last lap."""
        if self._cuda:
            torch.cuda.synchronize()
        self._last = time.perf_counter()
