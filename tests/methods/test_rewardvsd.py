"""RewardVSD: identities with VSD and RewardSDS, and its cost."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import LinearReward, gaussian_prior, make_step, set_up, viewed_step

from psdbench.errors import UsageError
from psdbench.guidance import Method
from psdbench.methods.rewardsds import RewardSDS
from psdbench.methods.rewardvsd import RewardVSD
from psdbench.methods.vsd import VSD
from psdbench.streams import Streams, randn


def run(method: Method, prior, steps: int = 3, **kwargs) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Gradients of some steps, and the state of the LoRA after them."""
    streams = Streams(0)
    state = set_up(method, prior, streams)
    latents = randn((2, 8, 16, 16), Streams(5)["test"])
    steps_made = [viewed_step(prior, latents, streams, state=state, index=i, **kwargs) for i in range(steps)]
    gradients = [method.gradient(step) for step in steps_made]
    weights = {name: value.clone() for name, value in state.state_dict().items()}
    state.close()
    return gradients, weights


@pytest.mark.parametrize(
    ("method", "progress"),
    [(RewardVSD(noises=1, rule="best"), 0.0), (RewardVSD(noises=1, rule="none"), 0.0), (RewardVSD(), 0.7)],
)
def test_one_noise_is_vsd_bit_for_bit_and_asks_no_reward(tiny_prior, method, progress: float) -> None:
    gradients, weights = run(method, tiny_prior, progress=progress)
    expected, expected_weights = run(VSD(), tiny_prior, progress=progress)
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    assert all(torch.equal(weights[name], expected_weights[name]) for name in expected_weights)


def test_more_noises_leave_the_training_of_psi_as_it_is(tiny_prior) -> None:
    """ψ regresses on the render, and nothing that is ranked changes what it draws."""
    gradients, weights = run(RewardVSD(noises=4), tiny_prior, reward=LinearReward())
    expected, expected_weights = run(VSD(), tiny_prior)
    assert all(torch.equal(weights[name], expected_weights[name]) for name in expected_weights)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(gradients, expected, strict=True))


@pytest.mark.parametrize("rule", ["best", "softmax", "min_max", "none"])
def test_exact_score_of_a_point_is_rewardsds(rule: str) -> None:
    """q of a point mass at the render predicts each noise itself, so every residual is that of SDS."""
    prior, latents = gaussian_prior(), torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    method = RewardVSD(rule=rule)
    state = set_up(method, prior, Streams(3))
    nothing = torch.zeros(1, 16)
    state.score.update(
        latents, torch.zeros(1, dtype=torch.int64), torch.zeros_like(latents), nothing, nothing
    )
    for timestep in (50, 450, 900):
        kwargs = {"timestep": timestep, "reward": LinearReward()}
        g = method.gradient(make_step(prior, latents, Streams(1), state=state, **kwargs))
        expected = RewardSDS(rule=rule).gradient(make_step(prior, latents, Streams(1), **kwargs))
        torch.testing.assert_close(g, expected, rtol=1e-4, atol=1e-5)


def test_cost(tiny_prior) -> None:
    steps, views, k = 2, 2, 7
    run(RewardVSD(), tiny_prior, steps, reward=LinearReward())
    one = {"denoiser_forwards": 3 * k + 1, "denoiser_backwards": 1, "decodes": k, "reward_forwards": k}
    expected = {name: one.get(name, 0) * views * steps for name in vars(tiny_prior.counters)}
    assert vars(tiny_prior.counters) == expected


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UsageError, match=r"rewardvsd\.noises of 3"):
        RewardVSD(noises=3)
