"""The naive reward-gradient baseline."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import (
    DIRECTION,
    MEAN,
    LinearReward,
    assert_mean_is,
    gaussian_gradient,
    gaussian_prior,
    viewed_step,
)

from psdbench.errors import UsageError
from psdbench.methods.reward_gradient import RewardGradient
from psdbench.methods.sds import SDS
from psdbench.streams import Streams, randn


def test_without_weight_it_is_sds_bit_for_bit_and_asks_no_reward(tiny_prior) -> None:
    streams, reference = Streams(0), Streams(0)
    for index in range(2):
        latents = randn((2, 8, 16, 16), Streams(index)["test"])
        g = RewardGradient(reward_weight=0.0).gradient(viewed_step(tiny_prior, latents, streams))
        assert torch.equal(g, SDS().gradient(viewed_step(tiny_prior, latents, reference)))


def test_without_balance_it_adds_lambda_times_the_slope_at_the_decoded_render(tiny_prior) -> None:
    """Against finite differences: along the slope the reward rises at the rate of its norm."""
    latents, weight = randn((2, 8, 16, 16), Streams(0)["test"]), 0.01
    step = viewed_step(tiny_prior, latents, Streams(0), reward=LinearReward())
    method = RewardGradient(reward_weight=weight, balance="none")
    base = SDS().gradient(viewed_step(tiny_prior, latents, Streams(0)))
    slope = (base - method.gradient(step)) / weight
    direction, h = slope / slope.norm(), 0.02
    ahead, behind = (step.rewards((latents + s * h * direction)[None]).double().sum() for s in (1, -1))
    assert ((ahead - behind) / (2 * h)).item() == pytest.approx(slope.norm().item(), rel=0.05)


def test_fixed_point_without_balance() -> None:
    """μ + λ b v/(w σ α), as any linear reward's, wherever it is asked."""
    prior, views, weight = gaussian_prior(), 20_000, 0.1
    alpha, sigma = (x.item() for x in prior.alpha_sigma(torch.tensor([450])))
    v = alpha**2 * prior.std**2 + sigma**2
    shift = weight * v / (sigma**2 * sigma * alpha) * DIRECTION.view(3, 1, 1)
    method = RewardGradient(guidance_scale=1.0, reward_weight=weight, balance="none")
    start = (MEAN + shift).expand(views, -1, -1, -1)
    assert_mean_is(gaussian_gradient(method, start, reward=LinearReward()), 0.0)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean_is(gaussian_gradient(method, MEAN.expand(views, -1, -1, -1), reward=LinearReward()), 0.0)


def test_balanced_term_climbs_the_reward_by_a_share_of_the_base(latents: Tensor) -> None:
    base = gaussian_gradient(SDS(), latents)
    term = base - gaussian_gradient(RewardGradient(reward_weight=0.5), latents, reward=LinearReward())
    assert (term.norm() / base.norm()).item() == pytest.approx(0.5, rel=1e-4)
    up = DIRECTION.view(3, 1, 1).expand_as(term)
    assert torch.cosine_similarity(term.flatten(), up.flatten(), 0).item() == pytest.approx(1, abs=1e-5)


def test_cost(tiny_prior) -> None:
    step = viewed_step(tiny_prior, torch.randn(3, 8, 16, 16), Streams(0), reward=LinearReward())
    assert not RewardGradient().gradient(step).requires_grad
    one = {"denoiser_forwards": 2, "decodes": 1, "reward_forwards": 1, "reward_backwards": 1}
    assert vars(step.counters) == {name: one.get(name, 0) * 3 for name in vars(step.counters)}


def test_a_reward_without_gradient_is_refused(latents: Tensor) -> None:
    reward = LinearReward()
    reward.differentiable = False
    with pytest.raises(UsageError, match="no gradient"):
        gaussian_gradient(RewardGradient(), latents, reward=reward)
