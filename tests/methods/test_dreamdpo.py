"""DreamDPO: the paper's formula, the released code's, and what the pair alone does."""

from __future__ import annotations

from dataclasses import replace
from math import inf, pi, sqrt

import pytest
import torch
from torch import Tensor
from toys import (
    DIRECTION,
    MEAN,
    STD,
    FirstIsBetter,
    LinearReward,
    assert_mean_is,
    gaussian_gradient,
    gaussian_prior,
    make_step,
    set_up,
    viewed_step,
)

from psdbench.errors import UsageError
from psdbench.guidance import Pool, noise_pool, one_step_x0
from psdbench.methods.dreamdpo import DreamDPO
from psdbench.methods.psd import PSD
from psdbench.methods.rewardsds import RewardSDS
from psdbench.methods.sds import SDS
from psdbench.streams import Streams

WEIGHT = gaussian_prior().sigmas[450] ** 2
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def pair_of(latents: Tensor) -> tuple[Pool, Tensor]:
    """The pool of the two noises of seed 1, and the gaps r_1 - r_2 [V] of their one-step images."""
    step = make_step(gaussian_prior(), latents, Streams(1))
    pool = noise_pool(step, step.noises(2), 7.5)
    rewards = torch.einsum("kvchw,c->kv", one_step_x0(step, pool), DIRECTION)
    return pool, rewards[0] - rewards[1]


def test_winner_is_pulled_and_the_loser_pushed_from_the_threshold_on(latents: Tensor) -> None:
    pool, gaps = pair_of(latents)
    gap = gaps.mean()
    win, lose = (0, 1) if gap > 0 else (1, 0)
    rho, reward = WEIGHT * pool.residuals, LinearReward()
    size = gap.abs().item()
    above = gaussian_gradient(DreamDPO(threshold=size * 0.99), latents, reward=reward)
    torch.testing.assert_close(above, rho[win] - rho[lose], **CLOSE)
    below = gaussian_gradient(DreamDPO(threshold=size * 1.01), latents, reward=reward)
    torch.testing.assert_close(below, rho[win], **CLOSE)


def test_code_form_ranks_per_view_guides_the_winner_alone_and_keeps_the_noise_below(latents: Tensor) -> None:
    pool, gaps = pair_of(latents)
    threshold = gaps.abs().sort().values[1:3].mean().item()
    assert set(gaps.sign().tolist()) == {1, -1}, "both noises win somewhere"
    expected = []
    for v, gap in enumerate(gaps.tolist()):
        win, lose = (0, 1) if gap > 0 else (1, 0)
        pulled, pushed = pool.eps_hat[win, v], pool.eps_text[lose, v] - pool.noises[lose, v]
        residual = pulled - pool.noises[win, v] - pushed if abs(gap) >= threshold else pulled
        expected.append(WEIGHT * residual)
    g = gaussian_gradient(DreamDPO(form="code", threshold=threshold), latents, reward=LinearReward())
    torch.testing.assert_close(g, torch.stack(expected), **CLOSE)


def test_per_view_ranking_pushes_each_view_by_its_own_gap(latents: Tensor) -> None:
    pool, gaps = pair_of(latents)
    expected = gaps.sign()[:, None, None, None] * WEIGHT * (pool.residuals[0] - pool.residuals[1])
    g = gaussian_gradient(DreamDPO(threshold=0.0, per_view=True), latents, reward=LinearReward())
    torch.testing.assert_close(g, expected, **CLOSE)
    together = gaussian_gradient(DreamDPO(threshold=0.0), latents, reward=LinearReward())
    assert not torch.allclose(g, together, atol=1e-2)


def test_a_pair_of_equals_gives_nothing_in_the_paper_and_the_classifier_score_in_the_code(
    latents: Tensor,
) -> None:
    """w (ω - 1) (ε̂_text - ε̂_neg), the only pull to the prior that the code has."""
    found = {}
    for form in ("paper", "code"):
        streams = Streams(1)
        streams["pair_noise"].set_state(streams["noise"].get_state())
        method = DreamDPO(form=form, threshold=0.0)
        found[form] = gaussian_gradient(method, latents, reward=FirstIsBetter(), streams=streams)
    torch.testing.assert_close(found["paper"], torch.zeros_like(latents))
    pool, _ = pair_of(latents)
    hidden = pool.eps_hat[0] - pool.eps_text[0]  # which is (ω - 1) (ε̂_text - ε̂_neg)
    torch.testing.assert_close(found["code"], WEIGHT * hidden, **CLOSE)
    assert hidden.abs().max() > 0.1


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize("threshold", [0.0, inf])
def test_the_order_of_the_noises_changes_nothing(form: str, threshold: float, latents: Tensor) -> None:
    method, swapped = DreamDPO(form=form, threshold=threshold), Streams(1)
    first, second = (swapped[name].get_state() for name in ("noise", "pair_noise"))
    swapped["noise"].set_state(second)
    swapped["pair_noise"].set_state(first)
    one = gaussian_gradient(method, latents, reward=LinearReward())
    two = gaussian_gradient(method, latents, reward=LinearReward(), streams=swapped)
    torch.testing.assert_close(one, two)


def test_never_pushing_is_the_best_of_two_bit_for_bit(latents: Tensor) -> None:
    for per_view in (False, True):
        best = RewardSDS(noises=2, rule="best", per_view=per_view)
        never = DreamDPO(threshold=inf, per_view=per_view)
        assert torch.equal(
            gaussian_gradient(never, latents, reward=LinearReward()),
            gaussian_gradient(best, latents, reward=LinearReward()),
        )


def test_always_pushing_is_the_preference_term_of_psd_without_its_base(latents: Tensor) -> None:
    pair = gaussian_gradient(DreamDPO(threshold=0.0), latents, reward=LinearReward())
    psd = gaussian_gradient(PSD(scale="one"), latents, reward=LinearReward())
    torch.testing.assert_close(pair, psd - gaussian_gradient(SDS(), latents), **CLOSE)


def test_the_pair_alone_drifts_along_the_reward_wherever_it_is() -> None:
    """E[G] = -w (α²s²/v) 2/√π b/|b|, at the prior's mean as far away from it: no fixed point."""
    prior, views = gaussian_prior(), 40_000
    alpha, sigma = (x.item() for x in prior.alpha_sigma(torch.tensor([450])))
    v = alpha**2 * STD**2 + sigma**2
    unit = (DIRECTION / DIRECTION.norm()).view(3, 1, 1)
    drift = -(sigma**2) * alpha**2 * STD**2 / v * 2 / sqrt(pi) * unit
    method = DreamDPO(guidance_scale=1.0, threshold=0.0, per_view=True)
    for place in (MEAN, MEAN + 5 * unit):
        g = gaussian_gradient(method, place.expand(views, -1, -1, -1), reward=LinearReward())
        assert_mean_is(g, drift)


def test_a_threshold_in_mean_gaps_does_not_know_the_units_of_the_reward(latents: Tensor) -> None:
    """The first gap is the mean so far; a threshold in reward units means another thing for each reward."""
    pool, gaps = pair_of(latents)
    relative = DreamDPO(threshold_unit="mean_gap", threshold=0.99)
    for unit in (1e-3, 1.0, 1e3):
        reward = LinearReward(unit * DIRECTION)
        pushed = gaussian_gradient(relative, latents, reward=reward)
        kept = gaussian_gradient(replace(relative, threshold=1.01), latents, reward=reward)
        difference = WEIGHT * pool.residuals[0 if gaps.mean() < 0 else 1]
        torch.testing.assert_close(kept - pushed, difference, **CLOSE)
    absolute = DreamDPO(threshold=gaps.mean().abs().item() / 2)
    small, large = (
        gaussian_gradient(absolute, latents, reward=LinearReward(unit * DIRECTION)) for unit in (1e-3, 1.0)
    )
    assert not torch.allclose(small, large, atol=1e-2)


def test_mean_gap_is_remembered_from_step_to_step_and_in_a_checkpoint(latents: Tensor) -> None:
    """A gap far below those before it does not push, though as a first gap it would."""
    method, prior = DreamDPO(threshold_unit="mean_gap", threshold=0.5), gaussian_prior()
    state = set_up(method, prior, Streams(1))
    method.gradient(make_step(prior, latents, Streams(2), reward=LinearReward(), state=state))
    resumed, fresh = set_up(method, prior, Streams(1)), set_up(method, prior, Streams(1))
    resumed.load_state_dict(state.state_dict())
    small, found = LinearReward(1e-3 * DIRECTION), []
    for memory in (state, resumed, fresh):
        found.append(method.gradient(make_step(prior, latents, Streams(1), reward=small, state=memory)))
    never = gaussian_gradient(replace(method, threshold=inf), latents, reward=small)
    assert torch.equal(found[0], never)
    assert torch.equal(found[1], never)
    assert not torch.allclose(found[2], never, atol=1e-2)


def test_draws_of_the_base_are_left_where_sds_leaves_them(latents: Tensor) -> None:
    ends = []
    for method in (SDS(), DreamDPO()):
        streams = Streams(1)
        gaussian_gradient(method, latents, reward=LinearReward(), streams=streams)
        ends.append(streams["noise"].get_state())
    assert torch.equal(*ends)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_cost(tiny_prior, form: str) -> None:
    reward = LinearReward()
    step = viewed_step(tiny_prior, torch.randn(2, 8, 16, 16), Streams(0), reward=reward)
    assert not DreamDPO(form=form).gradient(step).requires_grad
    one = {"denoiser_forwards": 4, "decodes": 2, "reward_forwards": 2}
    assert vars(step.counters) == {name: one.get(name, 0) * 2 for name in vars(step.counters)}
    assert reward.graphs_built == [False]


@pytest.mark.parametrize("form", ["paper", "code"])
def test_a_reward_that_is_nan_shows_in_the_gradient(form: str, latents: Tensor) -> None:
    broken = LinearReward(torch.full((3,), float("nan")))
    assert gaussian_gradient(DreamDPO(form=form), latents, reward=broken).isnan().all()


def test_without_a_reward_it_says_so(latents: Tensor) -> None:
    with pytest.raises(UsageError, match="reward"):
        gaussian_gradient(DreamDPO(), latents)
