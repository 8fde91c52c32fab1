"""Where the seconds of an optimisation go."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

PARTS = ("render", "encode", "method", "backward", "adam", "rest")


class Stopwatch:
    """Seconds by part of a step: `lap(part)` books the time since the last lap, finished kernels included.

    `away` tells how many of all seconds so far went into other jobs, which are nobody's here.
    """

    def __init__(self, device: torch.device, away: Callable[[], float] = lambda: 0.0) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._cuda, self._away = device.type == "cuda", away
        self._last = self._now()

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - self._away()

    def lap(self, part: str) -> None:
        """Book the time since the last lap."""
        now = self._now()
        self.seconds[part] += now - self._last
        self._last = now

    def skip(self) -> None:
        """Leave out the time since the last lap."""
        self._last = self._now()
