"""Diffusion-DPO: identities of its loss, and its optimum, which is the tilted prior."""

from __future__ import annotations

import math

import pytest
import torch
from toys import DIRECTION, MEAN, STD, LinearReward
from tunable import ConstantReward, gaussian_tuner, gradient_of, kl_weight_of_dpo, tilted_mean

from psdbench.finetune.algorithm import Batch, Tuner
from psdbench.finetune.dpo import DiffusionDPO
from psdbench.streams import Streams, randn


def pairs(tuner: Tuner, count: int = 3) -> tuple[Batch, torch.Tensor]:
    """A batch and clean latents of so many pairs, drawn from the prior."""
    batch = tuner.draw(count, repeats=2)
    return batch, MEAN + STD * randn((2 * count, 3, 1, 1), Streams(5)["pairs"])


def test_at_the_reference_the_loss_is_log_two_whatever_wins() -> None:
    algorithm = DiffusionDPO()
    for preference in (0.0, 0.5, 1.0):
        tuner = gaussian_tuner(algorithm)
        batch, x0 = pairs(tuner)
        loss = algorithm.loss(tuner, batch, x0, torch.full((3,), preference))
        assert loss.item() == pytest.approx(math.log(2), abs=1e-7)
        assert (gradient_of(tuner, loss).norm() > 0) == (preference != 0.5), "only a tie asks for nothing"


def test_equal_images_give_log_two_and_no_gradient_wherever_the_policy_is() -> None:
    algorithm = DiffusionDPO()
    tuner = gaussian_tuner(algorithm)
    with torch.no_grad():
        tuner.prior.shift += 0.3
    batch, x0 = pairs(tuner)
    x0[1::2] = x0[::2]
    loss = algorithm.loss(tuner, batch, x0, torch.ones(3))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-7)
    torch.testing.assert_close(gradient_of(tuner, loss), torch.zeros(3), rtol=0, atol=1e-4)


def test_swapping_winner_and_loser_with_the_preference_changes_nothing() -> None:
    algorithm = DiffusionDPO(beta=20.0)
    losses = []
    for swap in (False, True):
        tuner = gaussian_tuner(algorithm)
        with torch.no_grad():
            tuner.prior.shift += torch.tensor([0.2, -0.1, 0.4]).view(3, 1, 1)
        batch, x0 = pairs(tuner)
        p = torch.tensor([1.0, 0.0, 0.7])
        if swap:
            x0, p = x0.view(3, 2, 3, 1, 1).flip(1).flatten(0, 1), 1 - p
        losses.append(algorithm.loss(tuner, batch, x0, p).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_preferences_are_certain_without_temperature_and_bradley_terry_with_one() -> None:
    rewards = torch.tensor([0.3, 0.1, 0.1, 0.3, 0.2, 0.2])
    assert DiffusionDPO().preference(rewards).tolist() == [1.0, 0.0, 0.5]
    expected = torch.sigmoid(torch.tensor([2.0, -2.0, 0.0]))
    torch.testing.assert_close(DiffusionDPO(temperature=0.1).preference(rewards), expected)


@pytest.mark.parametrize("timestep", [100, 600])
def test_the_optimum_is_the_tilted_prior_pair_by_pair(timestep: int) -> None:
    """The implicit reward of N(m, s²) is z = (β A²/D)(m - μ)·(x_1 - x_2), A = σα/v, D coordinates.

    With Bradley-Terry labels of temperature τ the gradient therefore vanishes on every single pair at
    m = μ + (D/(β A² τ)) b: the prior tilted with the KL weight s² β A² τ / D.
    """
    algorithm = DiffusionDPO(beta=30.0, temperature=0.5, draws=1)
    tuner = gaussian_tuner(algorithm)
    weight = algorithm.beta * algorithm.temperature * kl_weight_of_dpo(tuner, timestep)
    batch, x0 = pairs(tuner, 4)
    preference = algorithm.preference(tuner.rewards(x0, batch))
    away = gradient_of(tuner, algorithm.loss(tuner, batch, x0, preference)).norm()
    with torch.no_grad():
        tuner.prior.shift.copy_(tilted_mean(beta=weight) - MEAN)
    at = gradient_of(tuner, algorithm.loss(tuner, batch, x0, preference))
    assert away > 0.01
    torch.testing.assert_close(at, torch.zeros(3), rtol=0, atol=1e-4 * float(away) + 1e-6)


def test_a_constant_reward_moves_nothing() -> None:
    algorithm = DiffusionDPO(pairs=2, draws=2)
    tuner = gaussian_tuner(algorithm, ConstantReward())
    for _ in range(3):
        assert algorithm.step(tuner) == pytest.approx((math.log(2), 0.1))
    assert torch.equal(tuner.prior.shift, torch.zeros(3, 1, 1))


def test_training_lowers_the_loss_and_follows_the_reward() -> None:
    algorithm = DiffusionDPO(pairs=8, draws=4, learning_rate=0.02, beta=100.0)
    tuner = gaussian_tuner(algorithm)
    losses = [algorithm.step(tuner)[0] for _ in range(40)]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert sum(losses[-10:]) / 10 < 0.6
    shift = tuner.prior.shift.detach().flatten()
    assert torch.cosine_similarity(shift, DIRECTION, dim=0) > 0.9


def test_pairs_come_from_the_reference_and_the_reward_is_asked_without_a_graph() -> None:
    algorithm, reward = DiffusionDPO(pairs=2, draws=1, sampling_steps=3), LinearReward()
    first, moved = gaussian_tuner(algorithm, reward), gaussian_tuner(algorithm, reward)
    with torch.no_grad():
        moved.prior.shift += 5.0
    assert algorithm.step(first)[1] == algorithm.step(moved)[1]
    assert not any(reward.graphs_built)


def test_passes_are_counted() -> None:
    algorithm = DiffusionDPO(pairs=2, draws=3, sampling_steps=5)
    tuner = gaussian_tuner(algorithm)
    algorithm.step(tuner)
    counters = tuner.prior.counters
    assert counters.denoiser_forwards == 2 * (4 * 5 + 4 * 3)
    assert (counters.denoiser_backwards, counters.reward_forwards) == (2 * 2 * 3, 4)


@pytest.mark.parametrize("bad", [{"pairs": 0}, {"draws": 0}, {"beta": 0.0}, {"temperature": -1.0}])
def test_settings_without_meaning_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DiffusionDPO(**bad)
