"""How the rewards of K noises become their coefficients c_k in G = Σ_k w(t) c_k ρ_k.

Σ_k c_k is the pull to the prior: 1 as in SDS, but 0.8 under `min_max` as its authors weigh it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from psdbench.errors import UsageError
from psdbench.guidance import Step

Rule = Literal["best", "softmax", "min_max"]

BEST, WORST = 0.9, -0.1
"""weights of the two ends under min_max, as RewardSDS's authors chose them"""
TINY = 1e-30


def scores(step: Step, x0: Tensor, per_view: bool) -> Tensor:
    """Rewards of clean latents [K, V, C, h, w]: [K, V], or their mean over each view set.

    The views of a set have one winner, since they are one object: [K, 1] where all views are one set, else
    [K, V] with the set's mean at each of its views.
    """
    rewards = step.rewards(x0)
    if per_view:
        return rewards
    means = rewards.unflatten(1, (-1, step.set_size)).mean(2)
    return means if means.shape[1] == 1 else means.repeat_interleave(step.set_size, 1)


def coefficients(
    rule: Rule, rewards: Tensor, *, temperature: float = 1.0, normalise: bool = False, extremes: int = 2
) -> Tensor:
    """c_k of K noises from their rewards [K, V] or [K, 1], in the same shape; NaN where a reward is.

    `best`: 1 for the best, 0 for the others. `softmax`: of reward / temperature, the rewards standardised
    over the K noises before where `normalise` says so. `min_max`: 0.9 times the mean of the best `extremes`
    minus 0.1 times that of the worst. Of equals the earlier noise is the better one.
    """
    if rule == "softmax":
        return torch.softmax((standardised(rewards) if normalise else rewards) / temperature, 0)
    order = rewards.argsort(dim=0, descending=True, stable=True)
    chosen = 0 * rewards  # NaN where the reward is: it must not pass for a rank
    if rule == "best":
        return chosen.scatter_add(0, order[:1], torch.ones_like(rewards[:1]))
    ends = torch.full_like(rewards[:extremes], 1 / extremes)
    chosen = chosen.scatter_add(0, order[:extremes], BEST * ends)
    return chosen.scatter_add(0, order[-extremes:], WORST * ends)


def standardised(rewards: Tensor) -> Tensor:
    """Rewards [K, V] with mean 0 and standard deviation 1 over the K noises; equal ones stay equal."""
    centred = rewards - rewards.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp_min(TINY)


def check_ranking(
    method: str, *, rule: str, noises: int, extremes: int, rank_on: int, temperature: float
) -> None:
    """Raise UsageError, naming the method's field, for numbers that no ranking can work with."""
    least = {"noises": 2 * extremes if rule == "min_max" else 1, "extremes": 1, "rank_on": 1}
    for field, value in (("extremes", extremes), ("noises", noises), ("rank_on", rank_on)):
        if value < least[field]:
            raise UsageError(
                f"{method}.{field} of {value} is too few for rule '{rule}'", f"use {least[field]} or more"
            )
    if temperature <= 0:
        raise UsageError(f"{method}.temperature cannot be {temperature}", "use a positive number")
