"""DRaFT against autograd and the chain rule written out on the Gaussian prior."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toys import DIRECTION, STD, LinearReward
from tunable import ConstantReward, gaussian_tuner, gradient_of

from psdbench.errors import UsageError
from psdbench.finetune.algorithm import Tuner
from psdbench.finetune.draft import DRaFT
from psdbench.priors import ddim


def descended(algorithm: DRaFT, tuner: Tuner) -> torch.Tensor:
    """The gradient that one step hands to the optimizer, [3], read off AdamW's first moment (1 - 0.9) g."""
    algorithm.step(tuner)
    return tuner.optimizer.state_dict()["shift/exp_avg"].flatten() / 0.1


def test_one_step_truncation_is_the_derivative_of_the_last_move() -> None:
    """x' = α' x̂0 + σ' ε̂ with ∂x̂0/∂μ = σ²/v and ∂ε̂/∂μ = -ασ/v, whatever came before."""
    algorithm = DRaFT(guidance_scale=1.0, sampling_steps=10, batch=3)
    tuner = gaussian_tuner(algorithm)
    gradient = descended(algorithm, tuner)
    now, then = (torch.tensor([t]) for t in ddim.moves(tuner.prior, 10)[-1])
    (alpha, sigma), (alpha_next, sigma_next) = map(tuner.prior.alpha_sigma, (now, then))
    v = alpha**2 * STD**2 + sigma**2
    slope = alpha_next * sigma**2 / v - sigma_next * alpha * sigma / v
    torch.testing.assert_close(gradient, -(slope * DIRECTION).flatten(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("last", [1, 3, 10])
def test_truncation_is_autograd_of_the_last_moves(last: int) -> None:
    algorithm = DRaFT(last_steps=last, batch=2, guidance_scale=3.0)
    gradient = descended(algorithm, gaussian_tuner(algorithm))
    tuner = gaussian_tuner(algorithm)
    batch, path = tuner.draw(2), ddim.moves(tuner.prior, 10)
    x = tuner.noise(2)
    for number, move in enumerate(path):
        x = ddim.transition(tuner.prior, x, batch.text, move, 3.0, grad=True)[0]
        x = x.detach() if number < 10 - last else x
    loss = -torch.einsum("nchw,c->n", x, DIRECTION).mean()
    torch.testing.assert_close(gradient, gradient_of(tuner, loss), rtol=1e-5, atol=1e-7)


def test_longer_truncation_sees_more_of_the_chain() -> None:
    sizes = [
        descended(a, gaussian_tuner(a)).norm() for a in (DRaFT(last_steps=k, batch=1) for k in (1, 5, 10))
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_constant_reward_moves_nothing() -> None:
    algorithm = DRaFT(batch=2)
    tuner = gaussian_tuner(algorithm, ConstantReward())
    for _ in range(3):
        assert algorithm.step(tuner) == pytest.approx((-0.1, 0.1))
    assert torch.equal(tuner.prior.shift, torch.zeros(3, 1, 1))


def test_training_raises_the_reward() -> None:
    algorithm = DRaFT(batch=4, learning_rate=0.05)
    tuner = gaussian_tuner(algorithm)
    rewards = [algorithm.step(tuner)[1] for _ in range(40)]
    assert sum(rewards[-10:]) > sum(rewards[:10]) + 5
    assert tuner.prior.shift.detach().flatten() @ DIRECTION > 0.5


def test_random_truncation_stays_within_its_bound_and_reaches_it() -> None:
    algorithm = DRaFT(last_steps=3, random_steps=True)
    tuner = gaussian_tuner(algorithm)
    assert {algorithm._last_steps(tuner) for _ in range(50)} == {1, 2, 3}


def test_passes_are_counted() -> None:
    algorithm = DRaFT(batch=2, last_steps=2, sampling_steps=5)
    tuner = gaussian_tuner(algorithm)
    algorithm.step(tuner)
    counters = dataclasses.asdict(tuner.prior.counters)
    assert counters.pop("denoiser_forwards") == 2 * 5 * 2
    assert counters.pop("denoiser_backwards") == 2 * 2 * 2
    assert counters == {"encodes": 0, "decodes": 2, "reward_forwards": 2, "reward_backwards": 2}


def test_a_reward_without_gradient_is_refused() -> None:
    class Votes(LinearReward):
        differentiable = False

    algorithm = DRaFT()
    with pytest.raises(UsageError, match="has no gradient") as caught:
        algorithm.step(gaussian_tuner(algorithm, Votes()))
    assert "dpo" in caught.value.remedy


@pytest.mark.parametrize(
    "bad", [{"last_steps": 0}, {"last_steps": 11}, {"batch": 0}, {"steps": 0}, {"learning_rate": 0.0}]
)
def test_settings_without_meaning_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DRaFT(**bad)
