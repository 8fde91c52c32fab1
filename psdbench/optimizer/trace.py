"""The trace of a job: one row of numbers for each step, in checkpoints as a tensor and in `trace.csv` as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from psdbench.errors import CorruptResult
from psdbench.store import atomic

TRACE = "trace.csv"
_WHOLE = ("step", "timestep", "denoiser_forwards", "particle")


class TraceRow(NamedTuple):
    """What one step leaves behind."""

    step: int
    loss: float
    """½‖G‖²/V of the scaled G, whose gradient is G, plus the weighted penalties"""
    gradient_rms: float
    """root mean square of G as the method returned it, before `grad_norm` scales it"""
    opacity: float
    """mean over the pixels"""
    timestep: int
    learning_rate: float
    """of the first parameter group"""
    progress: float
    """where the schedules stood, [0, 1]"""
    denoiser_forwards: int
    """of the job, this step included"""
    particle: int = 0
    """number of the asset that the step moved"""


def to_tensor(trace: Sequence[TraceRow]) -> Tensor:
    """The rows as float64 [steps, columns]."""
    return torch.tensor(trace, dtype=torch.float64).view(-1, len(TraceRow._fields))


def from_tensor(stored: Tensor) -> list[TraceRow]:
    """The rows back, whole numbers as such."""
    rows = (TraceRow(*row) for row in stored.tolist())
    return [row._replace(**{name: int(getattr(row, name)) for name in _WHOLE}) for row in rows]


def steps_done(folder: Path) -> int:
    """The steps of a finished optimisation, by the rows of its `trace.csv`; CorruptResult when it is not there."""
    try:
        with (folder / TRACE).open(encoding="utf-8", newline="") as file:
            return sum(1 for _ in csv.reader(file)) - 1
    except OSError as error:
        raise CorruptResult(f"cannot read {folder / TRACE}: {error}", "run the same command again") from error


def write_trace(folder: Path, trace: Sequence[TraceRow]) -> None:
    """Write `trace.csv` into a job folder, floats in full precision."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([TraceRow._fields, *trace])
    atomic.write_text(folder / TRACE, text.getvalue())
