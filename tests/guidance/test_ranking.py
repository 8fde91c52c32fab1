"""From the rewards of K noises to their coefficients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import LinearReward, gaussian_prior, make_step

from psdbench.errors import UsageError
from psdbench.guidance.ranking import Rule, check_ranking, coefficients, scores, standardised
from psdbench.streams import Streams


def test_the_views_of_a_set_have_one_score_sets_their_own() -> None:
    prior = gaussian_prior()
    step = make_step(prior, torch.zeros(4, 3, 1, 1), Streams(0), reward=LinearReward())
    x0 = torch.randn(3, 4, 3, 1, 1)
    each = step.rewards(x0)
    torch.testing.assert_close(scores(step, x0, per_view=False), each.mean(1, keepdim=True))
    assert torch.equal(scores(step, x0, per_view=True), each)
    prior.views = 2
    by_set = torch.stack([each[:, :2].mean(1), each[:, 2:].mean(1)], 1).repeat_interleave(2, 1)
    torch.testing.assert_close(scores(step, x0, per_view=False), by_set)
    assert torch.equal(scores(step, x0, per_view=True), each)


RULES: tuple[Rule, ...] = ("best", "softmax", "min_max")
rewards_of_noises = st.lists(st.integers(-1000, 1000), min_size=4, max_size=9, unique=True).map(
    lambda values: torch.tensor(values, dtype=torch.float64)[:, None] / 100
)


@given(rewards_of_noises, st.sampled_from(RULES), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_noises_does_not_matter(rewards, rule, normalise, random) -> None:
    order = list(range(len(rewards)))
    random.shuffle(order)
    c = coefficients(rule, rewards, normalise=normalise)
    torch.testing.assert_close(coefficients(rule, rewards[order], normalise=normalise), c[order])


@given(rewards_of_noises, st.sampled_from(RULES), st.booleans())
def test_a_better_noise_never_weighs_less_and_the_sum_is_the_pull_to_the_prior(
    rewards, rule, normalise
) -> None:
    c = coefficients(rule, rewards, normalise=normalise)
    assert (c[rewards.argsort(0)[:, 0]].diff(dim=0) >= 0).all()
    assert c.sum().item() == pytest.approx(0.8 if rule == "min_max" else 1.0)


@given(rewards_of_noises, st.sampled_from(RULES), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_normalised_coefficients_do_not_know_the_units_of_the_reward(rewards, rule, unit, zero) -> None:
    torch.testing.assert_close(
        coefficients(rule, unit * rewards + zero, normalise=True),
        coefficients(rule, rewards, normalise=True),
        rtol=1e-6,
        atol=1e-9,
    )


def test_softmax_without_normalisation_does_know_them() -> None:
    """The authors' temperature of 1 hardly ranks rewards on HPS's scale, with gaps of a hundredth."""
    rewards = torch.tensor([[0.25], [0.26], [0.28]])
    assert coefficients("softmax", rewards).max() < 0.34
    assert coefficients("softmax", rewards, normalise=True).max() > 0.6
    assert coefficients("softmax", 100 * rewards).max() > 0.8


def test_coefficients_by_hand() -> None:
    rewards = torch.tensor([[3.0, 0.0], [1.0, 4.0], [2.0, 3.0], [0.0, 1.0], [-1.0, 2.0]])
    best = torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0], [0, 0]])
    torch.testing.assert_close(coefficients("best", rewards), best)
    min_max = torch.tensor([[0.45, -0.05], [0, 0.45], [0.45, 0.45], [-0.05, -0.05], [-0.05, 0]])
    torch.testing.assert_close(coefficients("min_max", rewards), min_max)
    one_each = torch.tensor([[0.9, -0.1], [0, 0.9], [0, 0], [0, 0], [-0.1, 0]])
    torch.testing.assert_close(coefficients("min_max", rewards, extremes=1), one_each)
    softmax = (rewards / 0.5).exp() / (rewards / 0.5).exp().sum(0)
    torch.testing.assert_close(coefficients("softmax", rewards, temperature=0.5), softmax)


@given(rewards_of_noises)
def test_limits_of_the_temperature_are_the_best_and_the_mean(rewards) -> None:
    torch.testing.assert_close(
        coefficients("softmax", rewards, temperature=1e-6), coefficients("best", rewards)
    )
    mean = torch.full_like(rewards, 1 / len(rewards))
    torch.testing.assert_close(coefficients("softmax", rewards, temperature=1e6), mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalise", [False, True])
def test_equals_weigh_the_same_in_softmax_and_the_earlier_wins_elsewhere(normalise: bool) -> None:
    ties = torch.full((5, 2), 0.3)
    torch.testing.assert_close(coefficients("softmax", ties, normalise=normalise), torch.full((5, 2), 0.2))
    assert coefficients("best", ties)[:, 0].tolist() == [1, 0, 0, 0, 0]
    assert coefficients("min_max", ties)[:, 0].sign().tolist() == [1, 1, 0, -1, -1]


@pytest.mark.parametrize("rule", RULES)
def test_a_reward_that_is_not_a_number_shows(rule: Rule) -> None:
    rewards = torch.tensor([[0.1, 1.0], [float("nan"), 2.0], [0.3, 3.0], [0.2, 4.0]])
    c = coefficients(rule, rewards)
    assert c[:, 0].isnan().any()
    assert not c[:, 1].isnan().any()


def test_standardised_rewards_have_mean_zero_and_deviation_one() -> None:
    z = standardised(torch.tensor([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]]))
    torch.testing.assert_close(z.mean(0), torch.zeros(2))
    torch.testing.assert_close(z.std(0, correction=0), torch.tensor([1.0, 0.0]))


def test_scores_are_of_each_view_or_of_the_whole_set() -> None:
    step = make_step(gaussian_prior(), torch.zeros(3, 3, 1, 1), Streams(0), reward=LinearReward())
    x0 = torch.randn(2, 3, 3, 1, 1)
    views = torch.einsum("kvchw,c->kv", x0, LinearReward().direction).detach()
    torch.testing.assert_close(scores(step, x0, per_view=True), views)
    torch.testing.assert_close(scores(step, x0, per_view=False), views.mean(1, keepdim=True))


def test_numbers_that_cannot_rank_are_refused_by_name() -> None:
    fit = {"rule": "min_max", "noises": 4, "extremes": 2, "rank_on": 1, "temperature": 1.0}
    check_ranking("m", **fit)
    check_ranking("m", **fit | {"rule": "best", "noises": 1})
    for field, value, least in (("noises", 3, 4), ("extremes", 0, 1), ("rank_on", 0, 1)):
        with pytest.raises(UsageError, match=rf"m\.{field} of {value} is too few") as error:
            check_ranking("m", **fit | {field: value})
        assert error.value.remedy == f"use {least} or more"
    with pytest.raises(UsageError, match=r"m\.temperature"):
        check_ranking("m", **fit | {"temperature": 0.0})
