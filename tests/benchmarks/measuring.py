"""What all benchmarks of a step measure with: a clock, calls in turn, intervals, memory and FLOPs.

On a CPU seconds are those that the process computed, on one thread: a machine is seldom idle. On a GPU they are
waited for. Calls that are compared run in turn, A B C A B C, and a ratio is the median of the rounds' ratios, so that
what slows the machine for a while slows all of them.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from psdbench.optimizer.stopwatch import Stopwatch

MB = 2**20


@dataclass(frozen=True)
class Call:
    """Something to be timed, and what it does in passes through networks."""

    name: str
    run: Callable[[], object]
    passes: Mapping[str, int] = field(default_factory=dict)
    """by the names of psdbench.counters.Counters"""
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    """entered before the clock starts"""


def now(device: torch.device) -> float:
    """Seconds: computed by this process on a CPU, passed by the clock on a GPU whose work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class ComputedTime(Stopwatch):
    """The optimizer's stopwatch with the clock of these benchmarks."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._device, self._last = device, now(device)

    def lap(self, part: str) -> None:
        """Book the time since the last lap."""
        moment = now(self._device)
        self.seconds[part] += moment - self._last
        self._last = moment


def in_turn(
    calls: Sequence[Call], device: torch.device, rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of every call in every round."""
    seconds: dict[str, list[float]] = {call.name: [] for call in calls}
    for number in range(-warmup, rounds):
        for call in calls:
            with call.around():
                start = now(device)
                call.run()
                taken = now(device) - start
            if number >= 0:
                seconds[call.name].append(taken)
    return seconds


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval by order statistics; of fewer than six values that is their range."""
    ordered = sorted(values)
    low = max(0, int(binom.ppf(0.025, len(ordered), 0.5)) - 1)
    return statistics.median(ordered), ordered[low], ordered[-1 - low]


def ratios(above: Sequence[float], *below: Sequence[float]) -> tuple[float, float, float]:
    """`middle` of the rounds' ratios to the sum of what is below."""
    return middle([top / sum(rest) for top, *rest in zip(above, *below, strict=True)])


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """The least-squares line through points: `start`, `slope` and `r2`, the share of the variance it explains."""
    slope, start = np.polyfit(x, y, 1)
    residual = np.asarray(y) - (start + slope * np.asarray(x))
    return {"start": float(start), "slope": float(slope), "r2": float(1 - residual.var() / np.var(y))}


def flops(call: Callable[[], object]) -> int:
    """Of the products of matrices, convolutions and attention that a call makes."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def products_per_second(device: torch.device, dtype: torch.dtype, side: int = 8192) -> float:
    """FLOP/s of one large product of matrices: what a step could reach at best."""
    factors = [torch.randn(side, side, device=device, dtype=dtype) for _ in range(2)]
    times = in_turn([Call("product", lambda: factors[0] @ factors[1])], device, rounds=10)["product"]
    return 2 * side**3 / statistics.median(times)


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors that were made within it and are alive, at most: `peak`.

    Kernels' own scratch memory is not in it, nor what was there before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """torch's hook: every operation comes by, backward passes too."""
        result = func(*args, **(kwargs or {}))
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in given and id(storage) not in self._alive:
                    self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()

        def gone(_: object) -> None:
            del self._alive[key]
            self.now -= size

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def peak_memory(call: Callable[[], object], device: torch.device) -> float:
    """MB that a call needs at most beyond what was there: allocated on a GPU, in tensors on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MB
    with LiveBytes() as bytes_:
        call()
    return bytes_.peak / MB
