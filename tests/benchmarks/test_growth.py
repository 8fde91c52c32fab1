"""How seconds and memory of a step grow with views, with pixels and with samples on a ray: points, lines, a plot.

All on the embedded prior, on the CPU, where a step's memory is that of its tensors. Each axis changes one setting of
an SDS step and leaves the others as they are by default. What grows besides views, pixels and samples, such as
prompts that are optimised together, is one more entry of AXES.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from measuring import Call, in_turn, line, peak_memory

from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.optimizer.loop import Optimisation
from psdbench.registry import method_class

ROUNDS = 12


@dataclass(frozen=True)
class Axis:
    """A setting that makes steps longer."""

    name: str
    values: tuple[int, ...]
    amount: Callable[[int], float]
    """of work at a value, in which cost should be a line"""
    optimize: Callable[[int], dict[str, Any]] = lambda value: {}
    """fields of OptimizeConfig"""
    params: Callable[[int], dict[str, Any]] = lambda value: {}
    """parameters of the representation"""
    representation: str = field(default="voxels")

    def begin(self, value: int, prior: Any, size: int = 64) -> Optimisation:
        """A run at this value, with pictures of `size` where that is not the setting."""
        protocol = Protocol(
            PriorRef("any", "0" * 64),
            representation=self.representation,
            representation_params=self.params(value),
            optimize=OptimizeConfig(**{"steps": 100_000, "size": size} | self.optimize(value)),
        )
        spec = JobSpec("a red cube", "sds", {}, 0, protocol)
        return Optimisation.begin(spec, prior, method_class("sds")(), None)


AXES = [
    Axis("views", (1, 2, 4, 8), float, lambda views: {"views": views}),
    Axis("pixels", (32, 64, 96, 128), lambda side: float(side**2), lambda side: {"size": side}),
    Axis(
        "samples per ray",
        (32, 64, 128, 256),
        float,
        params=lambda samples: {"samples": samples, "occupancy_every": 100_000},
        representation="hashgrid",
    ),
]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name.replace(" ", "-"))
def test_growth(axis: Axis, shapes_prior: Any, benchmark: Any) -> None:
    values = axis.values if benchmark.enabled else axis.values[:2]
    runs = {value: axis.begin(value, shapes_prior, 64 if benchmark.enabled else 16) for value in values}
    seconds: dict[str, list[float]] = {}

    def measure() -> None:
        calls = [Call(str(value), run.step) for value, run in runs.items()]
        seconds.update(in_turn(calls, shapes_prior.device, ROUNDS if benchmark.enabled else 1))

    benchmark.pedantic(measure, rounds=1)
    work = [axis.amount(value) for value in values]
    times = [statistics.median(each) for each in seconds.values()]
    memory = [peak_memory(run.step, shapes_prior.device) for run in runs.values()]
    assert memory[-1] > memory[0]
    fits = {"seconds": line(work, times), "memory": line(work, memory)}
    benchmark.extra_info.update(
        axis=axis.name,
        representation=axis.representation,
        values=values,
        work=work,
        step_ms=[1e3 * value for value in times],
        memory_mb=memory,
        fits=fits,
        rounds=ROUNDS,
    )
    print({name: {key: round(value, 4) for key, value in fit.items()} for name, fit in fits.items()}, memory)
    if benchmark.enabled:
        # memory is no matter of luck: what does not grow as a line here is a defect
        assert fits["memory"]["r2"] > 0.99
