"""The slope of a reward on latents, and how it is balanced with the gradient of a base method."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toys import DIRECTION, LinearReward, gaussian_prior, make_step, viewed_step

from psdbench.cameras import Cameras
from psdbench.errors import UsageError
from psdbench.guidance import Step
from psdbench.guidance.ascent import climb, slope
from psdbench.streams import Streams, randn


@pytest.fixture
def step() -> Step:
    return make_step(
        gaussian_prior(), randn((4, 3, 2, 2), Streams(0)["test"]), Streams(1), reward=LinearReward()
    )


def test_slope_of_a_linear_reward_is_its_direction(step: Step) -> None:
    expected = DIRECTION.view(3, 1, 1).expand(4, 3, 2, 2)
    torch.testing.assert_close(slope(step, step.latents), expected)
    assert (step.counters.decodes, step.counters.reward_forwards, step.counters.reward_backwards) == (4, 4, 4)
    assert step.counters.denoiser_forwards == 0


def test_slope_leaves_no_graph_and_no_gradient_behind(step: Step) -> None:
    step.latents.requires_grad_()
    with torch.no_grad():
        assert not slope(step, step.latents).requires_grad
    assert step.latents.grad is None
    assert step.reward.direction.grad is None


def test_slope_goes_through_the_decoder(tiny_prior) -> None:
    """Against finite differences of the reward of decoded latents, along its own direction."""
    latents = randn((2, 8, 16, 16), Streams(0)["test"])
    step = viewed_step(tiny_prior, latents, Streams(0), reward=LinearReward())
    found = slope(step, latents)
    direction, h = found / found.norm(), 0.02
    ahead, behind = (step.rewards((latents + s * h * direction)[None]).double().sum() for s in (1, -1))
    assert ((ahead - behind) / (2 * h)).item() == pytest.approx(found.norm().item(), rel=0.05)


def test_a_reward_where_less_is_better_slopes_down(step: Step) -> None:
    upright = slope(step, step.latents)
    step.reward.higher_is_better = False
    torch.testing.assert_close(slope(step, step.latents), -upright)


def test_at_the_ceiling_and_above_a_view_has_no_slope(step: Step) -> None:
    rewards = step.rewards(step.latents[None])[0]
    middle = rewards.sort().values[2].item()
    found, free = slope(step, step.latents, ceiling=middle), slope(step, step.latents)
    below = rewards < middle
    assert below.sum() == 2
    torch.testing.assert_close(found[below], free[below])
    assert not found[~below].any()


class NoScore(LinearReward):
    """Has no score for the second image."""

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        scores = super().score(images, prompts, cameras)
        return torch.where(torch.arange(len(scores)) == 1, torch.nan, scores)


@pytest.mark.parametrize("ceiling", [None, 0.0])
def test_a_view_without_a_score_has_a_slope_that_is_not_a_number(step: Step, ceiling: float | None) -> None:
    step.reward = NoScore()
    found = slope(step, step.latents, ceiling)
    assert found[1].isnan().all()
    assert not found[[0, 2, 3]].isnan().any()


def test_a_reward_without_a_gradient_is_refused(step: Step) -> None:
    step.reward.differentiable = False
    with pytest.raises(UsageError, match="no gradient"):
        slope(step, step.latents)


def test_without_balance_the_weight_is_lambda() -> None:
    base, up = torch.randn(2, 4, 3, 2, 2).unbind(0)
    torch.testing.assert_close(climb(base, up, 0.7, "none"), base - 0.7 * up)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(0.01, 10))
def test_balanced_term_is_a_share_of_the_base_for_gradients_of_any_size(
    size: float, reward_size: float, weight: float
) -> None:
    """No jump anywhere: matching the decades of two losses would change the share tenfold in between."""
    base, up = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    term = size * base - climb(size * base, reward_size * up, weight, "ratio")
    assert (term.norm() / (size * base.norm())).item() == pytest.approx(weight, rel=1e-3)
    assert torch.cosine_similarity(term.flatten(), up.flatten(), 0).item() == pytest.approx(1, abs=1e-4)


def test_balance_keeps_the_proportions_between_views() -> None:
    base, up = torch.ones(2, 3, 1, 1), torch.ones(2, 3, 1, 1)
    up[1] *= 5
    term = base - climb(base, up, 0.3, "ratio")
    torch.testing.assert_close(term[1], 5 * term[0])


@pytest.mark.parametrize("balance", ["ratio", "none"])
def test_a_flat_reward_adds_nothing(balance: str) -> None:
    base = torch.randn(2, 3, 1, 1)
    assert torch.equal(climb(base, torch.zeros_like(base), 0.3, balance), base)
