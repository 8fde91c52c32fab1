"""Short jobs on a prior of the caller's, and what must be the same however they came to their end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.job import Task
from psdbench.plan import resolve_params
from psdbench.store.run import job_folder

METRICS = ("true_preference", "ground_truth")
STEPS = 4


def make_task(run: Path, prior: PriorRef, method: str = "sds", **optimize: Any) -> Task:
    protocol = Protocol(
        prior,
        representation_params=resolve_params("voxels", {"resolution": 12}),
        optimize=OptimizeConfig(**{"steps": STEPS, "size": 32, "checkpoint_every": 2, **optimize}),
    )
    spec = JobSpec("a red cube", method, resolve_params(method, {}), 0, protocol)
    return Task(spec, job_folder(run, spec), METRICS)


def contents(folder: Path) -> dict[str, bytes]:
    """What must not depend on how a job came to its end: all but times and logs."""
    names = ["asset.safetensors", "trace.csv", "scores.json", "turntable.mp4"]
    names += [f"renders/{p.name}" for p in (folder / "renders").glob("*.png")]
    return {name: (folder / name).read_bytes() for name in names}
