"""The engine: guidance convention, pooled residuals, counters, and the contract of methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from typing import Literal

import pytest
import torch
from torch import Tensor
from toys import MEAN, STD, LinearReward, gaussian_prior, make_step

from psdbench.cameras import Cameras, with_view_words
from psdbench.errors import UsageError
from psdbench.guidance import (
    Method,
    Step,
    cfg,
    combine,
    denoise,
    method,
    noise_pool,
    one_step_x0,
    short_ddim,
    weights,
)
from psdbench.streams import Streams, randn


@pytest.fixture
def step() -> Step:
    prior = gaussian_prior()
    latents = randn((2, 3, 1, 1), Streams(0)["test"])
    return make_step(prior, latents, Streams(1), reward=LinearReward())


def test_threestudio_scale_is_one_less_than_ours() -> None:
    """Their ε̂_y + s (ε̂_y - ε̂_n) is our ε̂_n + ω (ε̂_y - ε̂_n) with ω = s + 1."""
    negative, text = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for s in (0.0, 6.5, 100.0):
        torch.testing.assert_close(
            text + s * (text - negative), cfg(negative, text, s + 1), rtol=1e-12, atol=1e-12
        )


def test_pool_equals_one_denoiser_call_per_noise_and_branch(step: Step) -> None:
    noises = torch.cat([step.noise(), step.noise(), step.noise()])
    pool = noise_pool(step, noises, 7.5)
    alpha, sigma = step.prior.alpha_sigma(step.timestep)
    for k in range(3):
        x_t = alpha * step.latents + sigma * noises[k]
        lower = step.prior.predict_noise(x_t, step.timestep, step.text.negative)
        upper = step.prior.predict_noise(x_t, step.timestep, step.text.positive)
        torch.testing.assert_close(pool.eps_text[k], upper)
        torch.testing.assert_close(pool.residuals[k], lower + 7.5 * (upper - lower) - noises[k])


def test_pool_takes_timesteps_and_a_negative_of_its_own(step: Step) -> None:
    noises = torch.cat([step.noise()] * 2)
    timesteps = torch.tensor([[100, 100], [800, 800]])
    pool = noise_pool(step, noises, 7.5, timesteps=timesteps, negative=step.text.null[:1])
    for k in range(2):
        alpha, sigma = step.prior.alpha_sigma(timesteps[k])
        x_t = alpha * step.latents + sigma * noises[k]
        eps = [step.prior.predict_noise(x_t, timesteps[k], t) for t in (step.text.null, step.text.positive)]
        torch.testing.assert_close(pool.eps_hat[k], cfg(*eps, 7.5))
    torch.testing.assert_close(weights(step, pool, "sds")[:, :, 0, 0, 0], step.prior.sigmas[timesteps] ** 2)


def test_views_keep_their_own_text(step: Step) -> None:
    """A mix-up of views inside the batch would show here: each view has another mean."""
    shifted = torch.cat([step.text.positive[:1], step.text.positive[1:] + 3])
    x_t, t = torch.zeros(2, 2, 3, 1, 1), step.timestep.expand(2, -1)
    (eps,) = denoise(step, x_t, t, shifted)
    for v in range(2):
        alone = step.prior.predict_noise(x_t[0, v : v + 1], step.timestep[:1], shifted[v : v + 1])
        torch.testing.assert_close(eps[:, v], alone.expand(2, -1, -1, -1))


def test_further_noises_come_from_a_stream_of_their_own(step: Step) -> None:
    noises = step.noises(4)
    alone = Streams(1)
    assert torch.equal(noises[0], randn(step.latents.shape, alone["noise"]))
    for k in (1, 2, 3):
        assert torch.equal(noises[k], randn(step.latents.shape, alone["pair_noise"]))
    assert torch.equal(step.streams["noise"].get_state(), alone["noise"].get_state())


def test_no_negative_branch_at_scale_one(step: Step) -> None:
    pool = noise_pool(step, step.noise(), 1.0)
    assert torch.equal(pool.eps_hat, pool.eps_text)
    assert step.counters.denoiser_forwards == 2
    noise_pool(step, step.noise(), 2.0)
    assert step.counters.denoiser_forwards == 2 + 4


def test_combine_weighs_noises_and_views() -> None:
    residuals, weight = torch.randn(2, 3, 4, 1, 1), torch.rand(2, 3, 1, 1, 1)
    coefficients = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]])
    expected = sum(coefficients[k][:, None, None, None] * weight[k] * residuals[k] for k in range(2))
    torch.testing.assert_close(combine(residuals, weight, coefficients), expected)
    torch.testing.assert_close(combine(residuals, weight), (weight * residuals).sum(0))
    assert torch.equal(
        combine(residuals[:1], weight[:1], torch.ones(1, 1)), combine(residuals[:1], weight[:1])
    )


def test_one_step_x0_is_the_posterior_mean(step: Step) -> None:
    pool = noise_pool(step, step.noise(), 1.0)
    alpha, sigma = step.prior.alpha_sigma(step.timestep)
    variance = alpha**2 * STD**2 + sigma**2
    expected = MEAN + alpha * STD**2 / variance * (pool.x_t - alpha * MEAN)
    torch.testing.assert_close(one_step_x0(step, pool), expected, rtol=1e-4, atol=1e-5)


def test_ddim_follows_the_probability_flow(step: Step) -> None:
    """For a Gaussian the flow ends at μ + s (x_t - αμ)/√v; more steps come closer to it."""
    pool = noise_pool(step, step.noise(), 1.0)
    alpha, sigma = step.prior.alpha_sigma(step.timestep)
    flow = MEAN + STD * (pool.x_t - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2).sqrt()
    errors = [(short_ddim(step, pool, n, 1.0) - flow).abs().max().item() for n in (1, 4, 16, 64)]
    assert torch.equal(short_ddim(step, pool, 1, 1.0), one_step_x0(step, pool))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 8 * errors[3]
    assert errors[3] < 0.05


def test_rewards_are_counted_and_have_no_graph(step: Step) -> None:
    x0 = torch.randn(3, 2, 3, 1, 1, requires_grad=True)
    rewards = step.rewards(x0)
    torch.testing.assert_close(rewards, torch.einsum("kvchw,c->kv", x0, step.reward.direction).detach())
    assert not rewards.requires_grad
    assert (step.counters.reward_forwards, step.counters.decodes) == (6, 6)
    step.rewards(x0, grad=True).sum().backward()
    assert step.counters.reward_backwards == 6
    assert x0.grad is not None


def test_rewards_where_lower_is_better_are_turned_round(step: Step) -> None:
    x0 = torch.randn(1, 2, 3, 1, 1)
    upright = step.rewards(x0)
    step.reward.higher_is_better = False
    torch.testing.assert_close(step.rewards(x0), -upright)


class AzimuthInWords(LinearReward):
    """Scores an image by its camera, and checks that the prompt names the same view."""

    view_words = True

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        assert list(prompts) == with_view_words("y", cameras)
        return cameras.azimuth


def test_each_image_is_scored_with_its_own_prompt_and_camera() -> None:
    prior = gaussian_prior()
    step = make_step(prior, torch.zeros(4, 3, 1, 1), Streams(0), reward=AzimuthInWords())
    step.prompts = with_view_words("y", step.cameras)
    rewards = step.rewards(torch.zeros(3, 4, 3, 1, 1))
    assert torch.equal(rewards, step.cameras.azimuth.expand(3, -1))


def test_missing_and_unfit_rewards_are_refused(step: Step) -> None:
    step.reward.differentiable = False
    with pytest.raises(UsageError, match="no gradient"):
        step.rewards(torch.zeros(1, 2, 3, 1, 1), grad=True)
    step.reward = None
    with pytest.raises(UsageError, match="reward"):
        step.rewards(torch.zeros(1, 2, 3, 1, 1))


@method("sample", paper="none")
class Sample(Method):
    """A method for the tests below."""

    strength: float = 2.0
    mode: Literal["a", "b"] = "a"

    def gradient(self, step: Step) -> Tensor:
        return step.latents


def test_method_is_a_frozen_dataclass_with_checked_choices() -> None:
    sample = Sample(strength=3.0, mode="b")
    assert (sample.name, sample.paper, sample.needs_reward) == ("sample", "none", False)
    assert sample == Sample(mode="b", strength=3.0)
    with pytest.raises(FrozenInstanceError):
        sample.strength = 1.0  # type: ignore[misc]
    with pytest.raises(UsageError, match=r"sample\.mode cannot be 'c'"):
        Sample(mode="c")  # type: ignore[arg-type]
