"""Whether the memory will do, asked before anything is queued.

What a job needs is predicted (`psdbench.plan.memory`) until jobs of the same run have measured it. What is there is the
free memory of the GPU, or the memory of the machine or its container, unless ``--memory`` says less or more. A
cluster's machines are not looked at: there, ``--memory`` alone sets a limit, for one worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from psdbench.errors import EnvironmentProblem
from psdbench.launch.options import parse_memory
from psdbench.launch.threads import default_workers, max_workers, physical_mb
from psdbench.plan.forecast import measured_peaks, unfinished
from psdbench.plan.memory import PROCESS_MB, lockstep_jobs, predict

if TYPE_CHECKING:
    from psdbench.config import JobSpec
    from psdbench.plan import Plan
    from psdbench.settings import RunConfig


@dataclass(frozen=True)
class Room:
    """The memory that the jobs left of a run need, and what is there, MB."""

    worker_mb: float
    """the most that one worker needs"""
    workers: int
    there_mb: float | None
    """for all workers; None where nobody knows it, or nothing is left to do"""
    method: str
    """whose jobs need the most"""
    parts: dict[str, float] = field(default_factory=dict)
    """of which a prediction is made up; empty where it was measured"""
    chosen_workers: bool = False
    """whether the user has given their number"""
    remedies: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For people: what is needed and what is there."""
        source = "predicted" if self.parts else "measured"
        there = "" if self.there_mb is None else f", of {size(self.there_mb)} there"
        workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
        return f"{self.worker_mb * self.workers:.0f} MB in {workers} ({source}){there}"

    def check(self) -> None:
        """Raise EnvironmentProblem where more is needed than is there."""
        need = self.worker_mb * self.workers
        if self.there_mb is None or need <= self.there_mb:
            return
        largest = sorted(self.parts, key=lambda name: -self.parts[name])[:3]
        made_up = ", ".join(f"{name} {size(self.parts[name])}" for name in largest) or "measured"
        each = f"{self.workers} workers need {size(need)}: " if self.workers > 1 else ""
        raise EnvironmentProblem(
            f"{each}a job of {self.method} needs {size(self.worker_mb)} of memory ({made_up}), "
            f"and {size(self.there_mb)} are there",
            f"choose {', '.join(self.remedies)}; or say with --memory what may be taken",
        )

    def settled(self, settings: RunConfig) -> RunConfig:
        """Settings with the number of workers that the memory carries, where the user gave none; locally."""
        if self.chosen_workers or settings.launcher != "local":
            return settings
        return replace(settings, workers=self.workers)


def look_for_room(plan: Plan, settings: RunConfig) -> Room:
    """What the jobs of a plan need that have no result yet."""
    jobs = unfinished(plan.jobs, plan.out)
    worker_mb, spec, parts = needed(jobs or plan.jobs, plan, settings.pack)
    device, local = plan.protocol.device, settings.launcher == "local"
    given = parse_memory(settings.memory) if settings.memory else None
    there = given if given is not None or not local else there_mb(device)
    fit = default_workers(device, worker_mb, given)
    workers = min(settings.workers or fit, len(plan.jobs)) if local else 1
    if local and device == "cpu":
        workers = min(workers, max_workers())
    return Room(
        worker_mb=worker_mb,
        workers=workers,
        there_mb=there if jobs else None,
        method=spec.method,
        parts=parts,
        chosen_workers=settings.workers is not None,
        remedies=tuple(remedies(spec, workers, lockstep_jobs(spec, settings.pack))),
    )


def needed(jobs: Sequence[JobSpec], plan: Plan, pack: int) -> tuple[float, JobSpec, dict[str, float]]:
    """The most MB that a worker needs for a pack of these jobs, for which job, and the parts of a prediction."""
    device = plan.protocol.device
    measured = {count: measured_peaks(plan.jobs, plan.out, count) for count in {1, pack}}
    outside = (
        PROCESS_MB[device] if device == "cuda" else 0.0
    )  # torch counts only what it has allocated itself
    found = []
    for spec in {spec.method: spec for spec in jobs}.values():
        together = lockstep_jobs(spec, pack)
        peaks = measured[together]
        parts = {} if spec.method in peaks else predict(spec, plan.metrics, together)
        found.append((sum(parts.values()) or peaks[spec.method] + outside, spec, parts))
    return max(found, key=lambda each: each[0])


def there_mb(device: str) -> float:
    """Free memory of the GPU, or the memory of this machine, MB."""
    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0] / 2**20)
    return physical_mb()


def remedies(spec: JobSpec, workers: int, together: int) -> list[str]:
    """What would need less, as far as it is not chosen already."""
    optimize, ways = spec.protocol.optimize, []
    if workers > 1:
        ways.append("fewer --workers")
    if together > 1:
        ways.append("a smaller --pack")
    if optimize.views > 1:
        ways.append("fewer views (--set optimize.views=1)")
    if optimize.size > 64:
        ways.append("a smaller --set optimize.size")
    if optimize.memory_rung < 2:
        ways.append(f"--set optimize.memory_rung={optimize.memory_rung + 1} (slower)")
    if spec.protocol.prior.dtype == "float32":
        ways.append("--dtype bfloat16")
    return [*ways, "another prior or a coarser representation"]


def size(mb: float) -> str:
    """``3.2 GB`` or ``700 MB``."""
    return f"{mb / 1024:.1f} GB" if mb >= 1024 else f"{mb:.0f} MB"
