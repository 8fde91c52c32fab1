"""Direct reward fine-tuning, DRaFT-K (arXiv 2309.17400); AlignProp (arXiv 2310.03739) with a random K.

    x_T ~ N(0, I)
    x_{t'} = DDIM(x_t; y)                  without a graph, but for the last K moves
    L = -r(decode(x_0), y),                ∇ through reward, decoder and the last K moves

The reward's own gradient steers, which is why it learns fastest and is hacked soonest. There is no pull to the
reference: the number of steps is the regulariser. Cost per sample, n DDIM steps: 2n denoiser forwards, 2K of
them backwards, 1 reward forward and backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from psdbench.finetune.algorithm import Algorithm, Tuner
from psdbench.priors import ddim


@dataclass(frozen=True, kw_only=True)
class DRaFT(Algorithm):
    """Backpropagation of the reward through the end of the sampling chain."""

    name: ClassVar[str] = "draft"
    paper: ClassVar[str] = "arXiv 2309.17400"
    needs_gradient: ClassVar[bool] = True

    steps: int = 150
    """optimisation steps; each draws new samples"""
    learning_rate: float = 1e-3
    """of AdamW, constant; AlignProp's value"""
    batch: int = 8
    """samples of a step; AlignProp uses 128"""
    last_steps: int = 1
    """K, the moves that carry the gradient; 1 is DRaFT's recommendation"""
    random_steps: bool = False
    """draw K anew at every step, uniform over 1 … last_steps, as AlignProp's randomised truncation"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1:
            raise ValueError("batch must be at least 1")
        if not 1 <= self.last_steps <= self.sampling_steps:
            raise ValueError(f"last_steps must lie between 1 and sampling_steps, {self.sampling_steps}")

    def step(self, tuner: Tuner) -> tuple[float, float]:
        batch = tuner.draw(self.batch)
        path = ddim.moves(tuner.prior, self.sampling_steps)
        last = self._last_steps(tuner)
        x = ddim.walk(tuner.prior, tuner.noise(len(batch)), batch.text, path[:-last], self.guidance_scale)
        x0 = ddim.walk(tuner.prior, x, batch.text, path[-last:], self.guidance_scale, grad=True)
        reward = tuner.rewards(x0, batch, grad=True).mean()
        return tuner.descend([-reward]), float(reward.detach())

    def _last_steps(self, tuner: Tuner) -> int:
        """K of this step."""
        if not self.random_steps:
            return self.last_steps
        return int(torch.randint(1, self.last_steps + 1, (), generator=tuner.streams["truncation"]))
