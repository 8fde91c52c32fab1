"""Following a reward's own gradient, and how far: for the methods that differentiate the reward.

Gradients of a reward and of a distillation loss have no common unit. DreamReward's code matches the decades
of the two losses: its weight jumps by ten whenever a loss gains or loses a digit, is decided by the losses'
constants, which move nothing, and means another strength for every reward. Here the norms of the gradients
themselves are matched: a weight is the share of the base gradient's length that the reward may add, the same
for rewards of any scale, and smooth in everything.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu

from psdbench.guidance import Step

Balance = Literal["ratio", "none"]

TINY = 1e-30


def slope(step: Step, x0: Tensor, ceiling: float | None = None) -> Tensor:
    """∂ min(r, ceiling)/∂x0 of clean latents [V, C, h, w], through the decoder; each view by its own reward.

    At `ceiling`, in units of the reward, and above it is 0. Where a reward is NaN, so is its slope.
    """
    leaf = x0.detach().requires_grad_()
    with torch.enable_grad():
        rewards = step.rewards(leaf[None], grad=True)[0]
        height = rewards if ceiling is None else -relu(ceiling - rewards)
        (gradient,) = torch.autograd.grad(height.sum(), leaf)
    return gradient + 0 * rewards.detach()[:, None, None, None]


def climb(base: Tensor, slope: Tensor, weight: float, balance: Balance) -> Tensor:
    """G of both, base - λ slope: latents [V, C, h, w] descend the base's gradient and climb the reward.

    λ is `weight` in base units per reward (balance `none`) or weight · ‖base‖/‖slope‖ over the whole view set
    (`ratio`). A slope of 0 adds nothing.
    """
    if balance == "ratio":
        slope = base.norm() * (slope / slope.norm().clamp_min(TINY))
    return base - weight * slope
