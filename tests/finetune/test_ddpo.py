"""DDPO: ratios and advantages by their definitions, and the policy gradient against the pathwise one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import DIRECTION
from tunable import ConstantReward, gaussian_tuner, gradient_of

from psdbench.finetune.ddpo import DDPO, log_density
from psdbench.priors import ddim
from psdbench.streams import Streams, randn


def test_at_the_first_inner_epoch_every_ratio_is_one() -> None:
    algorithm = DDPO(prompts=2, samples=3)
    tuner = gaussian_tuner(algorithm)
    batch = tuner.draw(2, 3)
    taken = algorithm.sample(tuner, batch)
    for move in range(len(taken.path)):
        assert torch.equal(algorithm.ratio(tuner, batch, taken, move), torch.ones(6))
    with torch.no_grad():
        tuner.prior.shift += 0.1
    assert not torch.allclose(algorithm.ratio(tuner, batch, taken, 0), torch.ones(6))


def test_the_ratio_is_one_on_a_real_network_too(tiny_tuner) -> None:
    algorithm = DDPO(prompts=1, samples=2, sampling_steps=3)
    batch = tiny_tuner.draw(1, 2)
    taken = algorithm.sample(tiny_tuner, batch)
    for move in range(3):
        assert torch.equal(algorithm.ratio(tiny_tuner, batch, taken, move), torch.ones(2))


def test_log_density_is_that_of_torch_per_coordinate_but_for_a_constant() -> None:
    x, mean = randn((2, 4, 3, 1, 1), Streams(0)["x"])
    std = torch.full((4, 1, 1, 1), 0.3)
    exact = torch.distributions.Normal(mean, std).log_prob(x).flatten(1).mean(1)
    difference = exact - log_density(x, mean, std)
    torch.testing.assert_close(difference, difference[:1].expand(4))


def test_the_mean_gradient_is_that_of_the_expected_reward() -> None:
    """E[Σ_t r ∂ log π] = ∂E[r], the pathwise derivative of the mean end of the chain: -1/D of it here.

    The advantage is the reward less its mean; dividing by a deviation would only rescale.
    """
    algorithm = DDPO(guidance_scale=1.0, sampling_steps=4, timestep_share=1.0, prompts=1, samples=20_000)
    tuner = gaussian_tuner(algorithm)
    batch = tuner.draw(1, algorithm.samples)
    taken = algorithm.sample(tuner, batch)
    rewards = tuner.rewards(taken.states[-1], batch)
    losses = list(algorithm.losses(tuner, batch, taken, rewards - rewards.mean()))
    gradient = gradient_of(tuner, torch.stack(losses).sum()) * 4 * 3

    x = torch.zeros(1, 3, 1, 1)
    one = tuner.draw(1)
    for move in ddim.moves(tuner.prior, 4):
        x = ddim.transition(tuner.prior, x, one.text, move, 1.0, eta=1.0, grad=True)[0]
    expected = -gradient_of(tuner, (x.flatten() * DIRECTION).sum())
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0.03)
    assert expected.norm() > 0.3


@settings(max_examples=50)
@given(st.lists(st.floats(-3, 3, width=32), min_size=8, max_size=8), st.floats(0.5, 100), st.floats(-5, 5))
def test_advantages_are_centred_per_caption_and_free_of_scale(
    values: list[float], scale: float, offset: float
) -> None:
    algorithm = DDPO(prompts=2, samples=4)
    rewards = torch.tensor(values).double()
    advantages = algorithm.advantages(rewards)
    assert advantages.abs().max() <= algorithm.advantage_max
    torch.testing.assert_close(advantages.view(2, 4).sum(1), torch.zeros(2).double(), atol=1e-6, rtol=0)
    if (rewards.view(2, 4).std(1) > 0.1).all():
        torch.testing.assert_close(
            algorithm.advantages(rewards * scale + offset), advantages, atol=1e-4, rtol=0
        )


@given(st.floats(-100, 100, width=32), st.integers(2, 9))
def test_equal_rewards_have_no_advantage_at_all(value: float, samples: int) -> None:
    algorithm = DDPO(samples=samples)
    assert torch.equal(algorithm.advantages(torch.full((2 * samples,), value)), torch.zeros(2 * samples))


def test_a_constant_reward_moves_nothing() -> None:
    algorithm = DDPO(prompts=2, samples=3)
    tuner = gaussian_tuner(algorithm, ConstantReward())
    for _ in range(3):
        assert algorithm.step(tuner) == pytest.approx((0.0, 0.1))
    assert torch.equal(tuner.prior.shift, torch.zeros(3, 1, 1))


def test_a_ratio_beyond_the_clip_stops_pulling() -> None:
    """min(ρA, clip(ρ)A): no gradient where ρ has left the range to the side that A wishes."""
    algorithm = DDPO(prompts=1, samples=4, timestep_share=0.1)
    tuner = gaussian_tuner(algorithm)
    batch = tuner.draw(1, 4)
    taken = algorithm.sample(tuner, batch)
    with torch.no_grad():
        tuner.prior.shift += 0.2
    (move,) = torch.randperm(10, generator=Streams(1)["timesteps"])[:1].tolist()
    beyond = (algorithm.ratio(tuner, batch, taken, move).detach() - 1).sign()
    tuner.streams = Streams(1)
    (loss,) = algorithm.losses(tuner, batch, taken, beyond)
    assert torch.equal(gradient_of(tuner, loss), torch.zeros(3))
    tuner.streams = Streams(1)
    (loss,) = algorithm.losses(tuner, batch, taken, -beyond)
    assert gradient_of(tuner, loss).norm() > 0


def test_training_raises_the_reward() -> None:
    algorithm = DDPO(prompts=2, samples=16, learning_rate=0.05, clip_range=0.1)
    tuner = gaussian_tuner(algorithm)
    rewards = [algorithm.step(tuner)[1] for _ in range(25)]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.5


def test_passes_are_counted() -> None:
    algorithm = DDPO(prompts=2, samples=3, sampling_steps=4, timestep_share=0.5, inner_epochs=2)
    tuner = gaussian_tuner(algorithm)
    algorithm.step(tuner)
    counters = tuner.prior.counters
    assert counters.denoiser_forwards == 6 * 2 * 4 * (1 + 0.5 * 2)
    assert (counters.denoiser_backwards, counters.reward_forwards) == (6 * 2 * 4 * 0.5 * 2, 6)


@pytest.mark.parametrize(
    "bad", [{"samples": 1}, {"inner_epochs": 0}, {"clip_range": 0.0}, {"timestep_share": 1.5}]
)
def test_settings_without_meaning_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DDPO(**bad)
