"""What a step of a method costs, measured: a short run of the real optimizer on a prior in closed form.

Passes through networks are counted as in a job, so the figures hold for any prior and reward. They are means
over a run, since some methods do more at its start, at its end or every few steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from psdbench.cameras import Cameras
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.guidance import Method
from psdbench.optimize import Optimisation
from psdbench.priors.gaussian import GaussianPrior, GaussianScore
from psdbench.streams import Streams

STEPS = 20
"""of the measured run: every twentieth of a schedule is seen once"""
SIZE = 8
"""side of its renders, pixels"""
PASSES = ("denoiser_forwards", "denoiser_backwards", "decodes", "reward_forwards", "reward_backwards")
"""what is counted; the one encoding of a view is the optimizer's own"""


class _Score(GaussianScore):
    """Its fit in closed form stands for a training step, and counts as one."""

    def update(self, latents: Tensor, t: Tensor, noise: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        self._prior.counters.add("denoiser_backwards", len(latents))
        return super().update(latents, t, noise, text, condition)


class _Prior(GaussianPrior):
    """A Gaussian for every prompt there may be, its mean a grey drawn from the prompt's bytes."""

    def __init__(self) -> None:
        super().__init__({"": torch.zeros(3, SIZE, SIZE)}, std=0.5)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        greys = torch.tensor([zlib.crc32(prompt.encode()) / 2**32 for prompt in prompts])
        return greys[:, None, None].expand(-1, 1, 3 * SIZE * SIZE)

    def tunable_score(self, rank: int, learning_rate: float, streams: Streams) -> GaussianScore:
        return _Score(self)


class _Brightness:
    """A differentiable reward."""

    id, sha256 = "brightness", ""
    higher_is_better = differentiable = True
    view_words = False

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        return images.mean((1, 2, 3))


def cost_per_view(method: Method) -> dict[str, float]:
    """Passes through networks per step and view, by the names in PASSES."""
    config = OptimizeConfig(steps=STEPS, size=SIZE)
    protocol = Protocol(PriorRef("gaussian", ""), representation_params={"resolution": 4}, optimize=config)
    spec = JobSpec("a red cube", method.name, {}, 0, protocol)
    run = Optimisation.begin(spec, _Prior(), method, _Brightness())
    try:
        for _ in range(STEPS):
            run.step()
    finally:
        run.close()
    counted = asdict(run.prior.counters)
    return {name: counted[name] / (STEPS * config.views) for name in PASSES}
