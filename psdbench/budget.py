"""How long a job is: a number of steps, or a budget of compute that costly methods spend in fewer steps.

A job ends after the first step at which the amount is reached, so it never exceeds it by a whole step.
Schedules run over the amount, whatever its unit: they see 0 at the first step and 1 at what will be the last
one, if that costs what the steps before it cost on average. A budget worth exactly n steps therefore gives the
bits of n steps. Spent denoiser forwards are part of the checkpoint, so such a job resumes with the same bits; a
budget of seconds depends on the machine and its load, and gives another result each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from psdbench.config import OptimizeConfig

Unit = Literal["steps", "nfe", "seconds"]
NOUNS: dict[Unit, str] = {"steps": "steps", "nfe": "denoiser forwards", "seconds": "seconds"}
PATIENCE = 100
"""steps without a denoiser forward after which a budget of them counts as never to be spent"""


@dataclass(frozen=True)
class Budget:
    """An amount of steps, of denoiser forwards (each image counts) or of seconds of optimisation."""

    unit: Unit
    amount: float

    @classmethod
    def of(cls, config: OptimizeConfig) -> Budget:
        """The length of a job under a configuration."""
        if config.nfe is not None:
            return cls("nfe", config.nfe)
        if config.seconds is not None:
            return cls("seconds", config.seconds)
        return cls("steps", config.steps)

    def progress(self, spent: float, steps: int) -> float:
        """Where schedules stand after `steps` steps that have cost `spent`, in [0, 1]."""
        if not steps:
            return 0.0
        last = self.amount - spent / steps
        return spent / last if spent < last else 1.0

    def expected_steps(self, step: int, progress: float) -> int:
        """How many steps the job will have, from the progress that its step number `step` saw; 0: not known."""
        if self.unit == "steps":
            return int(self.amount)
        return ceil(step / progress - 1e-9) + 1 if step and progress else 0

    def __str__(self) -> str:
        return f"{self.amount:.10g} {NOUNS[self.unit]}"
