"""Time, disk and memory of a plan: from the finished jobs of its folder, else from built-in figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from psdbench import registry
from psdbench.config import JobSpec
from psdbench.errors import CorruptResult
from psdbench.launch.threads import WORKER_MB
from psdbench.store.manifest import read_json, read_manifest
from psdbench.store.run import job_folder

STEP_SECONDS = {"sds": 0.065, "psd": 0.1, "vsd": 0.12}
"""one view of 64 x 64 pixels with the embedded prior on one thread of an idle CPU"""
OTHER_STEP_SECONDS = 0.1
EVALUATE_SECONDS = 3.0
"""rig, turntable and scoring of one job"""
START_SECONDS = 15.0
"""imports and models of a worker"""
RENDERS_MB = 0.3


@dataclass(frozen=True)
class Forecast:
    """What the jobs that are left will need; times are None where nothing is known (another prior, a GPU)."""

    jobs: int
    left: int
    seconds: float | None
    disk_mb: float
    memory_mb: float
    basis: str


def forecast(jobs: Sequence[JobSpec], out: Path, workers: int) -> Forecast:
    """Forecast for the jobs that are not finished in the run folder `out`."""
    left = [spec for spec in jobs if not _finished(out, spec)]
    measured = measured_step_seconds(jobs, out)
    step_seconds = {spec.method: measured.get(spec.method) or _built_in(spec) for spec in jobs}
    seconds = _total(left, step_seconds, workers)
    basis = f"{len(measured)} methods measured in {out}" if measured else "idle cores"
    return Forecast(
        len(jobs), len(left), seconds, _disk_mb(left, workers), WORKER_MB * workers, basis if seconds else ""
    )


def measured_step_seconds(jobs: Sequence[JobSpec], out: Path) -> dict[str, float]:
    """Median seconds per step by method over the finished jobs of a folder."""
    rates = defaultdict[str, list[float]](list)
    for spec in jobs:
        try:
            cost = read_json(job_folder(out, spec) / "cost.json") or {}
        except CorruptResult:
            continue
        if isinstance(cost.get("seconds"), float) and cost.get("steps"):
            rates[spec.method].append(cost["seconds"] / cost["steps"])
    return {method: median(values) for method, values in rates.items()}


def _built_in(spec: JobSpec) -> float | None:
    protocol = spec.protocol
    if protocol.prior.name != registry.WORLD or protocol.device != "cpu":
        return None
    pixels = protocol.optimize.views * (protocol.optimize.size / 64) ** 2
    return STEP_SECONDS.get(spec.method, OTHER_STEP_SECONDS) * pixels


def _total(left: Sequence[JobSpec], step_seconds: dict[str, float | None], workers: int) -> float | None:
    if not left:
        return 0.0
    total = 0.0
    for method, count in Counter(spec.method for spec in left).items():
        rate = step_seconds[method]
        if rate is None:
            return None
        total += count * (rate * left[0].protocol.optimize.steps + EVALUATE_SECONDS)
    return START_SECONDS + total / workers


def _disk_mb(left: Sequence[JobSpec], workers: int) -> float:
    """Assets and renders of all jobs; for each worker three checkpoints of parameters and two moments."""
    if not left:
        return 0.0
    import torch

    protocol = left[0].protocol
    asset = registry.make_representation(
        protocol.representation, protocol.representation_params, torch.Generator()
    )
    asset_mb = sum(t.numel() * t.element_size() for t in asset.state_dict().values()) / 2**20
    return len(left) * (asset_mb + RENDERS_MB) + workers * 9 * asset_mb


def _finished(out: Path, spec: JobSpec) -> bool:
    try:
        manifest = read_manifest(job_folder(out, spec))
    except CorruptResult:
        return False
    return manifest is not None and manifest.status != "failed"
