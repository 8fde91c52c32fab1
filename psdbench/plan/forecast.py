"""Time, disk and memory of a plan: from the finished jobs of its folder, else from what methods cost in passes.

A method is run for a few steps on a prior in closed form, its passes through networks are counted, and each kind
of pass has a time on the embedded prior. So every method can be forecast, also one from outside.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from psdbench import registry
from psdbench.budget import Budget
from psdbench.config import JobSpec
from psdbench.errors import CorruptResult
from psdbench.launch.threads import WORKER_MB
from psdbench.store.manifest import told_status
from psdbench.store.run import job_folder, refuse_link
from psdbench.store.sealed import read_json

STEP_SECONDS = 0.045
"""what a step has in common for all methods: one view of 64 x 64 pixels rendered, encoded and back, and Adam,
with the embedded prior on one thread of an idle CPU"""
SLOWER_SECONDS = {"hashgrid": 0.05, "gaussians": 0.04}
"""what a step takes longer than with voxels, in the same place, with these representations as they are by default"""
PASS_SECONDS = {
    "denoiser_forwards": 0.010,
    "denoiser_backwards": 0.035,
    "decodes": 0.004,
    "reward_forwards": 0.0035,
    "reward_backwards": 0.010,
}
"""one pass of one image, in the same place; together they give the 65 ms measured for a step of SDS, 100 ms for
PSD and 120 ms for VSD, a backward pass standing for all of a LoRA's training step, or for reward and decoder"""
BUILT_IN_BASIS = "idle cores with AVX-512; cores without have taken 1.7 times as long"
"""where these figures hold; the factor is that of all shipped methods on an EPYC of 2021, both its cores busy"""
EVALUATE_SECONDS = 3.0
"""rig, turntable and scoring of one job"""
START_SECONDS = 15.0
"""imports and models of a worker"""
RENDERS_MB = 0.3
SAMPLE = 50
"""jobs of a method whose cost is looked at"""


@dataclass(frozen=True)
class Forecast:
    """What the jobs that are left will need; times are None where nothing is known (another prior, a GPU)."""

    jobs: int
    left: int
    seconds: float | None
    disk_mb: float
    memory_mb: float
    basis: str
    steps: dict[str, int | None]
    """of one job, by method; None where a budget of seconds meets an unknown speed"""


@dataclass(frozen=True)
class Pace:
    """What one step of a method takes: seconds (None: not known) and denoiser forwards."""

    seconds: float | None
    forwards: float


def forecast(
    jobs: Sequence[JobSpec], out: Path, workers: int, snapshots: int = 0, worker_mb: float = WORKER_MB
) -> Forecast:
    """Forecast for the jobs that are not finished in the run folder `out`, with so many snapshots of each."""
    left = unfinished(jobs, out)
    measured = measured_paces(jobs, out)
    kinds = {spec.method: spec for spec in jobs}
    budget = Budget.of(jobs[0].protocol.optimize)
    paces = {name: measured.get(name) or _built_in(spec, budget) for name, spec in kinds.items()}
    steps = {name: _steps(budget, pace) for name, pace in paces.items()}
    seconds = _total(left, budget, paces, steps, workers, snapshots)
    basis = f"{len(measured)} methods measured in {out}" if measured else BUILT_IN_BASIS
    disk, memory = _disk_mb(left, workers, snapshots), worker_mb * workers
    return Forecast(len(jobs), len(left), seconds, disk, memory, "" if seconds is None else basis, steps)


def measured_paces(jobs: Sequence[JobSpec], out: Path) -> dict[str, Pace]:
    """Median cost of a step by method over the first finished jobs of a folder."""
    paces = {}
    for name, costs in _costs(jobs, out).items():
        steps = [
            (cost["seconds"] / cost["steps"], cost.get("denoiser_forwards", 0) / cost["steps"])
            for cost in costs
            if isinstance(cost.get("seconds"), float) and cost.get("steps")
        ]
        if steps:
            paces[name] = Pace(*map(median, zip(*steps, strict=True)))
    return paces


def measured_peaks(jobs: Sequence[JobSpec], out: Path, pack: int = 1) -> dict[str, float]:
    """The most memory that a process had held at the end of one of these jobs, MB, by method.

    Only jobs count that were optimised in the company of as many others as `pack` says.
    """
    peaks = {
        name: [
            cost["peak_memory_mb"]
            for cost in costs
            if isinstance(cost.get("peak_memory_mb"), float) and cost.get("pack", 1) == pack
        ]
        for name, costs in _costs(jobs, out).items()
    }
    return {name: max(each) for name, each in peaks.items() if each}


def _costs(jobs: Sequence[JobSpec], out: Path) -> dict[str, list[dict[str, Any]]]:
    """What the first finished jobs of each method say of their cost."""
    found = defaultdict[str, list[dict[str, Any]]](list)
    for spec in jobs:
        if len(found[spec.method]) == SAMPLE:
            continue
        try:
            cost = read_json(job_folder(out, spec) / "cost.json") or {}
        except CorruptResult:
            continue
        found[spec.method] += [cost] if cost else []
    return found


def _built_in(spec: JobSpec, budget: Budget) -> Pace:
    """From the passes of a step, where these are asked for: under a budget of them, or on the embedded prior."""
    protocol = spec.protocol
    timed = protocol.prior.name == registry.WORLD and protocol.device == "cpu"
    if not timed and budget.unit != "nfe":
        return Pace(None, 0.0)
    from psdbench.plan.method_cost import cost_per_view

    try:
        passes = cost_per_view(registry.planned_method(spec.method, spec.plugin)(**spec.params))
    except Exception:  # a method from outside may want what a closed-form prior does not have
        return Pace(None, 0.0)
    views, side = protocol.optimize.views, protocol.optimize.size / 64
    seconds = STEP_SECONDS + SLOWER_SECONDS.get(protocol.representation, 0.0)
    seconds += sum(PASS_SECONDS[name] * count for name, count in passes.items())
    return Pace(seconds * views * side**2 if timed else None, passes["denoiser_forwards"] * views)


def _steps(budget: Budget, pace: Pace) -> int | None:
    """How many steps a job of that length has."""
    cost = {"steps": 1.0, "nfe": pace.forwards, "seconds": pace.seconds}[budget.unit]
    return max(1, ceil(budget.amount / cost)) if cost else None


def _total(
    left: Sequence[JobSpec],
    budget: Budget,
    paces: Mapping[str, Pace],
    steps: Mapping[str, int | None],
    workers: int,
    snapshots: int,
) -> float | None:
    if not left:
        return 0.0
    total = 0.0
    for method, count in Counter(spec.method for spec in left).items():
        rate, length = paces[method].seconds, steps[method]
        if budget.unit == "seconds":
            one = budget.amount
        elif rate is None or length is None:
            return None
        else:
            one = rate * length
        total += count * (one + (1 + snapshots) * EVALUATE_SECONDS)
    return START_SECONDS + total / workers


def _disk_mb(left: Sequence[JobSpec], workers: int, snapshots: int) -> float:
    """Assets and renders of all jobs; for each worker three checkpoints of parameters and two moments."""
    if not left:
        return 0.0
    import torch

    protocol = left[0].protocol
    asset = registry.make_representation(
        protocol.representation, protocol.representation_params, torch.Generator()
    )
    bytes_each = sum(t.numel() * t.element_size() for t in asset.state_dict().values())
    asset_mb = protocol.optimize.particles * asset.growth * bytes_each / 2**20
    return len(left) * (asset_mb + (1 + snapshots) * RENDERS_MB) + workers * 9 * asset_mb


def unfinished(jobs: Sequence[JobSpec], out: Path) -> list[JobSpec]:
    """The jobs that have no result in the run folder `out` yet."""
    return [
        spec
        for spec in jobs
        if told_status(refuse_link(job_folder(out, spec))) not in ("finished", "diverged")
    ]
