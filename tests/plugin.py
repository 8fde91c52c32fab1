"""A method from outside, as its author would write it."""

from __future__ import annotations

PLUGIN = '''"""A method of somebody else."""

from __future__ import annotations

from torch import Tensor

from psdbench.guidance import Method, Step, combine, method, noise_pool, weights


@method("tempered", paper="none")
class Tempered(Method):
    """Tempered distillation."""

    temperature: float = 2.0
    """divides the gradient; our choice"""

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noise(), 7.5)
        return combine(pool.residuals, weights(step, pool, "sds")) / self.temperature
'''
