"""SDS against its closed form on the Gaussian prior."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toys import MEAN, MEAN_NEGATIVE, STD, assert_mean_is, gaussian_prior, make_step, viewed_step

from psdbench.errors import UsageError
from psdbench.guidance import noise_pool
from psdbench.methods.dreamreward import DreamReward
from psdbench.methods.psd import PSD
from psdbench.methods.reward_gradient import RewardGradient
from psdbench.methods.rewardsds import RewardSDS
from psdbench.methods.sds import SDS
from psdbench.streams import Streams, randn


@pytest.mark.parametrize("omega", [1.0, 7.5])
@pytest.mark.parametrize("timestep", [50, 450, 900])
def test_gradient_is_the_closed_form(omega: float, timestep: int) -> None:
    """ρ = σα(θ - μ_ω)/v - (α²s²/v) ε with μ_ω = μ_n + ω (μ_y - μ_n), sample by sample."""
    prior, latents = gaussian_prior(), randn((4, 3, 1, 1), Streams(0)["test"])
    gradient = SDS(guidance_scale=omega).gradient(make_step(prior, latents, Streams(1), timestep=timestep))

    noise = randn(latents.shape, Streams(1)["noise"])
    alpha, sigma = prior.alpha_sigma(torch.tensor([timestep]))
    variance = alpha**2 * STD**2 + sigma**2
    guided_mean = MEAN_NEGATIVE + omega * (MEAN - MEAN_NEGATIVE)
    rho = sigma * alpha * (latents - guided_mean) / variance - alpha**2 * STD**2 / variance * noise
    torch.testing.assert_close(gradient, sigma**2 * rho, rtol=1e-4, atol=1e-4)


def test_mean_and_variance_over_noises() -> None:
    prior, views = gaussian_prior(), 50_000
    latents = torch.ones(3, 1, 1).expand(views, -1, -1, -1)
    gradient = SDS(guidance_scale=1.0, weighting="uniform").gradient(make_step(prior, latents, Streams(1)))
    alpha, sigma = prior.alpha_sigma(torch.tensor([450]))
    variance = alpha**2 * STD**2 + sigma**2
    assert_mean_is(gradient, (sigma * alpha * (1 - MEAN) / variance)[0])
    expected = ((alpha**2 * STD**2 / variance) ** 2).item()
    torch.testing.assert_close(gradient.var(0).flatten(), torch.full((3,), expected), rtol=0.05, atol=0)


def test_fixed_point_is_the_guided_mean() -> None:
    prior = gaussian_prior()
    guided_mean = MEAN_NEGATIVE + 3.0 * (MEAN - MEAN_NEGATIVE)
    latents = guided_mean.expand(20_000, -1, -1, -1)
    method = SDS(guidance_scale=3.0)
    assert_mean_is(method.gradient(make_step(prior, latents, Streams(1))), 0.0)
    off = method.gradient(make_step(prior, latents + 0.1, Streams(1)))
    assert (off.mean(0) > 5 * off.std(0) / 20_000**0.5).all(), "away from it the gradient leads back"


def test_one_denoiser_call_of_two_per_view(tiny_prior) -> None:
    step = viewed_step(tiny_prior, torch.randn(3, 8, 16, 16), Streams(0))
    gradient = SDS().gradient(step)
    assert gradient.shape == step.latents.shape
    assert not gradient.requires_grad
    counters = vars(step.counters)
    assert counters.pop("denoiser_forwards") == 6
    assert set(counters.values()) == {0}


def test_same_seed_same_bits_other_seed_other_bits(tiny_prior) -> None:
    latents = torch.randn(1, 8, 16, 16)
    first, again, other = (
        SDS().gradient(viewed_step(tiny_prior, latents, Streams(seed))) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_rescaled_x0_has_the_spread_of_the_text_branch(tiny_prior) -> None:
    """ρ = 1: the target x - G is x̂0, shrunk to the standard deviation of the unguided x̂0 over all views."""
    latents, seed = randn((3, 8, 16, 16), Streams(0)["test"]), 1
    step = viewed_step(tiny_prior, latents, Streams(seed))
    pool = noise_pool(step, step.noise(), 50.0)
    x0, x0_text = (
        tiny_prior.predict_x0(pool.x_t, e, pool.timesteps)[0] for e in (pool.eps_hat, pool.eps_text)
    )
    gradients = [
        SDS(guidance_scale=50.0, weighting="x0", x0_rescale=rho).gradient(
            viewed_step(tiny_prior, latents, Streams(seed))
        )
        for rho in (0.0, 0.5, 1.0)
    ]
    none, half, full = (latents - g for g in gradients)
    assert abs(x0.std() / x0_text.std() - 1) > 0.01
    torch.testing.assert_close(none, x0, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(full, x0 * x0_text.std() / x0.std(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(half, (none + full) / 2, rtol=1e-3, atol=1e-3)


def test_rescaling_what_is_not_guided_changes_no_bit(tiny_prior) -> None:
    latents = randn((2, 8, 16, 16), Streams(0)["test"])
    off, on = (
        SDS(guidance_scale=1.0, weighting="x0", x0_rescale=rho).gradient(
            viewed_step(tiny_prior, latents, Streams(1))
        )
        for rho in (0.0, 0.7)
    )
    assert torch.equal(off, on)


@pytest.mark.parametrize("cls", [SDS, PSD, RewardSDS, DreamReward, RewardGradient])
def test_rescaling_is_by_a_share(cls: type[Any]) -> None:
    with pytest.raises(UsageError, match=f"{cls.name}.x0_rescale cannot be 1.5"):
        cls(x0_rescale=1.5)
