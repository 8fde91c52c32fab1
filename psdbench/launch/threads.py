"""How the cores are shared out.

On a CPU the number of threads decides how sums are split, and so the last bits of every result. It is therefore
the same for any number of workers; the workers are limited instead, so that workers x threads never exceeds the
cores (two processes of two threads on two cores were measured to run 6 to 10 times slower).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

THREADS_PER_WORKER = 1
"""on two idle cores an SDS step of the embedded world was measured at 51 ms with one thread and 38 ms with two:
two workers of one thread each do half more steps, and lose less to other work on the machine"""
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""where a container says how much memory it may take, of both versions of control groups; max or bytes"""
WORKER_MB = 700.0
"""memory of a worker with the embedded prior and scorers; 560 MB were measured"""


def cores() -> int:
    """The CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_worker() -> int:
    """torch threads of every worker on a CPU: THREADS_PER_WORKER, or OMP_NUM_THREADS where that is set."""
    wished = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(int(wished) if wished.isdecimal() else THREADS_PER_WORKER, cores()))


def max_workers() -> int:
    """How many workers the cores carry."""
    return max(1, cores() // threads_per_worker())


def default_workers(device: str = "cpu", worker_mb: float = WORKER_MB, there_mb: float | None = None) -> int:
    """The number of workers when none is asked for: one on a GPU, else what cores and half the memory carry.

    Of `there_mb`, which the user has set aside, all counts.
    """
    if device == "cuda":
        return 1
    usable = physical_mb() / 2 if there_mb is None else there_mb
    return max(1, min(max_workers(), int(usable / worker_mb)))


def physical_mb() -> float:
    """The memory of this machine, or of the control group that this process is confined to, MB."""
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    limits = [Path(file) for file in CGROUP_LIMITS if Path(file).is_file()]
    confined = (file.read_text(encoding="ascii").strip() for file in limits)
    return min(memory_mb, *(int(limit) / 2**20 for limit in confined if limit.isdecimal()), math.inf)


def set_threads(device: str) -> None:
    """Set torch's threads for this process, once, before any work; a GPU's results do not depend on them."""
    import torch

    if device == "cpu":
        torch.set_num_threads(threads_per_worker())
