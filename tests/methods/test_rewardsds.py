"""RewardSDS: identities with SDS and PSD, what is ranked and weighed, and its cost."""

from __future__ import annotations

from dataclasses import replace
from math import pi, sqrt

import pytest
import torch
from torch import Tensor
from toys import (
    DIRECTION,
    MEAN,
    STD,
    UNIT,
    LinearReward,
    assert_mean_is,
    gaussian_gradient,
    gaussian_prior,
    make_step,
    viewed_step,
)

from psdbench.errors import UsageError
from psdbench.guidance import noise_pool, one_step_x0, short_ddim
from psdbench.methods.psd import PSD
from psdbench.methods.rewardsds import RewardSDS
from psdbench.methods.sds import SDS
from psdbench.streams import Streams, randn


@pytest.mark.parametrize(
    ("method", "progress"),
    [(RewardSDS(noises=1, rule=rule), 0.0) for rule in ("best", "softmax", "none")]
    + [(RewardSDS(), 0.7), (RewardSDS(reward_duration=0.0), 0.0)],
)
def test_one_noise_is_sds_bit_for_bit_and_asks_no_reward(tiny_prior, method, progress: float) -> None:
    streams, reference = Streams(0), Streams(0)
    for index in range(2):
        latents = randn((2, 8, 16, 16), Streams(index)["test"])
        g = method.gradient(viewed_step(tiny_prior, latents, streams, index=index, progress=progress))
        assert torch.equal(g, SDS().gradient(viewed_step(tiny_prior, latents, reference, index=index)))


def test_the_reward_ends_with_its_duration_and_the_draws_of_sds_go_on(latents: Tensor) -> None:
    method, prior, streams, reference = (
        RewardSDS(reward_duration=0.5),
        gaussian_prior(),
        Streams(1),
        Streams(1),
    )
    for progress in (0.0, 0.49, 0.5, 1.0):
        g = method.gradient(make_step(prior, latents, streams, reward=LinearReward(), progress=progress))
        sds = SDS().gradient(make_step(prior, latents, reference, progress=progress))
        assert torch.equal(g, sds) == (progress >= 0.5)


def rho_and_rewards(latents: Tensor, noises: int) -> tuple[Tensor, Tensor]:
    """w ρ_k [K, V, ...] and the rewards [K, V] of the one-step images, from the streams of seed 1."""
    step = make_step(gaussian_prior(), latents, Streams(1))
    pool = noise_pool(step, step.noises(noises), 7.5)
    rewards = torch.einsum("kvchw,c->kv", one_step_x0(step, pool), DIRECTION)
    return step.prior.sigmas[450] ** 2 * pool.residuals, rewards


def test_rules_by_hand(latents: Tensor) -> None:
    """A set's reward is the mean over its views, so one noise is the best for all of them."""
    rho, rewards = rho_and_rewards(latents, 5)
    order = rewards.mean(1).argsort(descending=True)
    expected = {
        "best": rho[order[0]],
        "min_max": 0.9 * rho[order[:2]].mean(0) - 0.1 * rho[order[-2:]].mean(0),
        "softmax": torch.einsum("k,kvchw->vchw", (rewards.mean(1) / 0.2).softmax(0), rho),
        "none": rho.mean(0),
    }
    for rule, g in expected.items():
        method = RewardSDS(noises=5, rule=rule, temperature=0.2, normalise=False)
        found = gaussian_gradient(method, latents, reward=LinearReward())
        torch.testing.assert_close(found, g, rtol=1e-4, atol=1e-4)


def test_per_view_each_view_has_a_best_noise_of_its_own(latents: Tensor) -> None:
    rho, rewards = rho_and_rewards(latents, 5)
    best = rewards.argmax(0)
    assert len(best.unique()) > 1, "otherwise there is nothing to tell apart"
    found = gaussian_gradient(RewardSDS(noises=5, rule="best", per_view=True), latents, reward=LinearReward())
    torch.testing.assert_close(found, rho[best, torch.arange(4)], rtol=1e-4, atol=1e-4)


def test_equal_rewards_under_softmax_are_the_mean_of_the_noises(latents: Tensor) -> None:
    indifferent = LinearReward(torch.zeros(3))
    for normalise in (False, True):
        method = RewardSDS(rule="softmax", normalise=normalise)
        torch.testing.assert_close(
            gaussian_gradient(method, latents, reward=indifferent),
            gaussian_gradient(RewardSDS(rule="none"), latents),
        )


def test_min_max_of_equal_noises_keeps_four_fifths_of_sds(latents: Tensor) -> None:
    streams = Streams(1)
    streams["pair_noise"].set_state(streams["noise"].get_state())
    method = RewardSDS(noises=2, extremes=1)
    g = gaussian_gradient(method, latents, reward=LinearReward(), streams=streams)
    torch.testing.assert_close(g, 0.8 * gaussian_gradient(SDS(), latents), rtol=1e-4, atol=1e-5)


def test_two_noises_are_psd_with_the_winner_as_base(latents: Tensor) -> None:
    """best is λ = 0, bit for bit; min_max is 0.8 times λ = 1/8."""
    reward = LinearReward()
    best = gaussian_gradient(RewardSDS(noises=2, rule="best"), latents, reward=reward)
    winner = PSD(base_at="win", preference_scale=0.0)
    assert torch.equal(best, gaussian_gradient(winner, latents, reward=reward))
    min_max = gaussian_gradient(RewardSDS(noises=2, extremes=1), latents, reward=reward)
    pushed = replace(winner, preference_scale=0.125, scale="one")
    expected = 0.8 * gaussian_gradient(pushed, latents, reward=reward)
    torch.testing.assert_close(min_max, expected, rtol=1e-4, atol=1e-4)


def test_fixed_point_of_the_best_of_two() -> None:
    """μ + (αs²/σ)/√π b/|b|: the larger of two standard normals has mean 1/√π."""
    alpha, sigma = (x.item() for x in gaussian_prior().alpha_sigma(torch.tensor([450])))
    method = RewardSDS(noises=2, rule="best", guidance_scale=1.0, per_view=True)
    start = MEAN + alpha * STD**2 / sigma / sqrt(pi) * UNIT
    views = 60_000
    assert_mean_is(gaussian_gradient(method, start.expand(views, -1, -1, -1), reward=LinearReward()), 0.0)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean_is(gaussian_gradient(method, MEAN.expand(views, -1, -1, -1), reward=LinearReward()), 0.0)


def test_noises_can_be_ranked_at_the_end_of_a_ddim_chain(tiny_prior) -> None:
    latents, reward = randn((2, 8, 16, 16), Streams(0)["test"]), LinearReward()
    reference = viewed_step(tiny_prior, latents, Streams(0), reward=reward)
    pool = noise_pool(reference, reference.noises(3), 7.5)
    rewards = reference.rewards(short_ddim(reference, pool, 4, 7.5)).mean(1)
    before = dict(vars(tiny_prior.counters))
    step = viewed_step(tiny_prior, latents, Streams(0), reward=reward)
    g = RewardSDS(noises=3, rule="best", rank_on=4).gradient(step)
    expected = tiny_prior.sigmas[450] ** 2 * pool.residuals[rewards.argmax()]
    torch.testing.assert_close(g, expected, rtol=1e-3, atol=1e-4)
    forwards = tiny_prior.counters.denoiser_forwards - before["denoiser_forwards"]
    assert forwards == 2 * (2 * 3 + 3 * 2 * 3)


@pytest.mark.parametrize(("rule", "asked"), [("min_max", 1), ("none", 0)])
def test_cost(tiny_prior, rule: str, asked: int) -> None:
    views, k, reward = 2, 7, LinearReward()
    step = viewed_step(tiny_prior, torch.randn(views, 8, 16, 16), Streams(0), reward=reward)
    assert not RewardSDS(rule=rule).gradient(step).requires_grad
    expected = dict.fromkeys(vars(step.counters), 0) | {"denoiser_forwards": 2 * k * views}
    expected |= {"decodes": asked * k * views, "reward_forwards": asked * k * views}
    assert vars(step.counters) == expected
    assert reward.graphs_built == [False] * asked


def test_a_reward_that_is_nan_shows_in_the_gradient(latents: Tensor) -> None:
    for rule in ("best", "softmax", "min_max"):
        broken = LinearReward(torch.full((3,), float("nan")))
        assert gaussian_gradient(RewardSDS(rule=rule), latents, reward=broken).isnan().all()


def test_bad_settings_and_a_missing_reward_are_refused(latents: Tensor) -> None:
    with pytest.raises(UsageError, match=r"rewardsds\.noises of 3"):
        RewardSDS(noises=3)
    with pytest.raises(UsageError, match=r"rewardsds\.rule"):
        RewardSDS(rule="worst")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="reward"):
        gaussian_gradient(RewardSDS(), latents)
