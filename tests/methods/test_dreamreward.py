"""DreamReward: when it is SDS, what the reward judges, and where its fixed point lies."""

from __future__ import annotations

from collections.abc import Sequence

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
    make_step,
    viewed_step,
)

from psdbench.cameras import Cameras
from psdbench.errors import UsageError
from psdbench.guidance import noise_pool, one_step_x0
from psdbench.methods.dreamreward import DreamReward
from psdbench.methods.reward_gradient import RewardGradient
from psdbench.methods.sds import SDS
from psdbench.streams import Streams, randn

GOAL = torch.tensor([2.0, 1.0, 0.0]).view(3, 1, 1)
AT_ONCE = {"reward_start": 0.0, "x0_t_max": 1.0}


class Nearness(LinearReward):
    """r(x) = -½‖x - GOAL‖², whose slope tells where it was taken."""

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        return -0.5 * (images - GOAL).square().sum((1, 2, 3))


@pytest.mark.parametrize(
    ("method", "progress"),
    [(DreamReward(), 0.0), (DreamReward(), 0.099), (DreamReward(reward_weight=0.0), 0.5)],
)
def test_before_its_start_and_without_weight_it_is_sds_bit_for_bit(
    tiny_prior, method: DreamReward, progress: float
) -> None:
    streams, reference = Streams(0), Streams(0)
    for index in range(2):
        latents, kwargs = randn((2, 8, 16, 16), Streams(index)["test"]), {"progress": progress}
        g = method.gradient(viewed_step(tiny_prior, latents, streams, **kwargs))
        assert torch.equal(g, SDS().gradient(viewed_step(tiny_prior, latents, reference, **kwargs)))


def test_from_its_start_on_it_is_not(latents: Tensor) -> None:
    for progress, same in ((0.09, True), (0.1, False), (1.0, False)):
        g = gaussian_gradient(DreamReward(), latents, reward=LinearReward(), progress=progress)
        assert torch.equal(g, gaussian_gradient(SDS(), latents)) == same


def test_slope_is_taken_at_the_predicted_clean_image_and_applied_to_the_render(latents: Tensor) -> None:
    """∂r/∂x̂0 is GOAL - x̂0; the chain rule would shorten it by ∂x̂0/∂x."""
    method = DreamReward(**AT_ONCE, reward_weight=2.0, balance="none")
    g = gaussian_gradient(method, latents, reward=Nearness())
    step = make_step(gaussian_prior(), latents, Streams(1))
    x0 = one_step_x0(step, noise_pool(step, step.noise(), 7.5))[0]
    expected = gaussian_gradient(SDS(), latents) - 2.0 * (GOAL - x0)
    torch.testing.assert_close(g, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("timestep", "of_render"), [(299, False), (300, False), (301, True), (900, True)])
def test_where_t_is_large_the_render_itself_is_judged(
    timestep: int, of_render: bool, latents: Tensor
) -> None:
    kwargs = {"reward": Nearness(), "timestep": timestep}
    g = gaussian_gradient(DreamReward(reward_start=0.0), latents, **kwargs)
    assert torch.equal(g, gaussian_gradient(RewardGradient(), latents, **kwargs)) == of_render


@pytest.mark.parametrize("timestep", [200, 450])
def test_fixed_point_without_balance(timestep: int) -> None:
    """μ + λ b v/(w σ α), further away than a tilt of the prior: the pull to it gets weak where t is small."""
    prior, views, weight = gaussian_prior(), 20_000, 0.1
    alpha, sigma = (x.item() for x in prior.alpha_sigma(torch.tensor([timestep])))
    v = alpha**2 * prior.std**2 + sigma**2
    shift = weight * v / (sigma**2 * sigma * alpha) * DIRECTION.view(3, 1, 1)
    method = DreamReward(**AT_ONCE, guidance_scale=1.0, reward_weight=weight, balance="none")
    kwargs = {"reward": LinearReward(), "timestep": timestep}
    assert_mean_is(gaussian_gradient(method, (MEAN + shift).expand(views, -1, -1, -1), **kwargs), 0.0)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean_is(gaussian_gradient(method, MEAN.expand(views, -1, -1, -1), **kwargs), 0.0)


def test_above_the_ceiling_a_view_follows_the_prior_alone(latents: Tensor) -> None:
    step = make_step(gaussian_prior(), latents, Streams(1), reward=LinearReward())
    rewards = step.rewards(one_step_x0(step, noise_pool(step, step.noise(), 7.5)))[0]
    ceiling = rewards.median().item()
    g = gaussian_gradient(DreamReward(**AT_ONCE, ceiling=ceiling), latents, reward=LinearReward())
    unchanged = (g == gaussian_gradient(SDS(), latents)).flatten(1).all(1)
    assert torch.equal(unchanged, rewards >= ceiling)
    assert 0 < unchanged.sum() < 4


def test_balanced_it_does_not_know_the_units_of_the_reward(latents: Tensor) -> None:
    base, method = gaussian_gradient(SDS(), latents), DreamReward(**AT_ONCE, reward_weight=0.6)
    one = gaussian_gradient(method, latents, reward=LinearReward())
    assert ((one - base).norm() / base.norm()).item() == pytest.approx(0.6, rel=1e-4)
    for unit in (1e-3, 9.99, 10.01, 1e3):
        scaled = LinearReward(unit * DIRECTION)
        torch.testing.assert_close(gaussian_gradient(method, latents, reward=scaled), one)


@pytest.mark.parametrize("timestep", [200, 800])
def test_cost(tiny_prior, timestep: int) -> None:
    views = 2
    latents = torch.randn(views, 8, 16, 16, requires_grad=True)
    step = viewed_step(
        tiny_prior, latents, Streams(0), reward=LinearReward(), progress=0.5, timestep=timestep
    )
    assert not DreamReward().gradient(step).requires_grad
    one = {"denoiser_forwards": 2, "decodes": 1, "reward_forwards": 1, "reward_backwards": 1}
    assert vars(step.counters) == {name: one.get(name, 0) * views for name in vars(step.counters)}
    assert latents.grad is None


def test_a_reward_without_gradient_is_refused(latents: Tensor) -> None:
    reward = LinearReward()
    reward.differentiable = False
    with pytest.raises(UsageError, match="no gradient"):
        gaussian_gradient(DreamReward(**AT_ONCE), latents, reward=reward)
    with pytest.raises(UsageError, match="reward"):
        gaussian_gradient(DreamReward(**AT_ONCE), latents)
