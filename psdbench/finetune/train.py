"""The one training loop of all algorithms: step, checkpoint, resume; on a CPU the same bits either way.

The loop that trains the embedded world's models minimises one loss per step and keeps whole models in its
checkpoints; here a step samples, may descend several times, and of the model only the LoRA changes.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch

from psdbench.counters import Counters
from psdbench.errors import Diverged, Interrupted
from psdbench.finetune.algorithm import Algorithm, Tuner
from psdbench.optimizer import checkpoint
from psdbench.store import atomic

TRACE = "trace.csv"
CHECKPOINT_EVERY = 20
"""steps between two checkpoints; a killed training loses at most so many"""


class Row(NamedTuple):
    """What one step leaves behind."""

    step: int
    loss: float
    """of the last descent of the step"""
    reward: float
    """mean over the step's samples, higher is better"""


def train(
    algorithm: Algorithm,
    tuner: Tuner,
    folder: Path,
    job: str,
    on_step: Callable[[Row], None] = lambda row: None,
    should_stop: Callable[[], int] = lambda: 0,
) -> list[Row]:
    """Train the tuner's adapter, from the newest checkpoint of this job in `folder` on where there is one.

    `should_stop` is asked between steps and answers with the number of the signal that wants an end, or 0.
    Raises Interrupted then, after a checkpoint, and Diverged when loss or reward is not finite.
    """
    trace = resume(tuner, folder, job)
    while len(trace) < algorithm.steps:
        if number := should_stop():
            save(tuner, trace, folder, job)
            raise Interrupted(number)
        began = time.perf_counter()
        row = Row(len(trace), *algorithm.step(tuner))
        tuner.seconds += time.perf_counter() - began
        if not (math.isfinite(row.loss) and math.isfinite(row.reward)):
            raise Diverged(row.step, "the loss or the reward is not finite")
        trace.append(row)
        on_step(row)
        if len(trace) % CHECKPOINT_EVERY == 0 or len(trace) == algorithm.steps:
            save(tuner, trace, folder, job)
    return trace


def save(tuner: Tuner, trace: list[Row], folder: Path, job: str) -> None:
    """Write a checkpoint, and the trace so far as CSV."""
    tensors = {f"lora.{name}": tensor for name, tensor in tuner.optimizer.state_dict().items()}
    tensors |= {f"streams.{name}": state for name, state in tuner.streams.state_dict().items()}
    tensors["trace"] = torch.tensor(trace, dtype=torch.float64).view(-1, len(Row._fields))
    facts = {"counters": asdict(tuner.prior.counters), "seconds": tuner.seconds}
    checkpoint.save(folder, job, checkpoint.Checkpoint(len(trace), tensors, facts))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Row._fields, *trace])
    atomic.write_text(folder / TRACE, text.getvalue())


def resume(tuner: Tuner, folder: Path, job: str) -> list[Row]:
    """Take over the newest sound checkpoint, if there is one; returns its trace."""
    stored = checkpoint.load_newest(folder, job)
    if stored is None:
        return []
    tuner.optimizer.load_state_dict(stored.part("lora"))
    tuner.streams.load_state_dict(stored.part("streams"))
    tuner.prior.counters, tuner.seconds = Counters(**stored.facts["counters"]), stored.facts["seconds"]
    return [Row(int(step), loss, reward) for step, loss, reward in stored.tensors["trace"].tolist()]
