"""Rank correlations: closed forms, textbook values, intervals that hold what they promise."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psdbench.report.agreement import agreement, ranks

numbers = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=25)


def by_definition(people: list[float], metric: list[float]) -> tuple[float, float]:
    """Spearman's and Kendall's coefficients, slowly."""
    a, b = ranks(np.array(people, float)), ranks(np.array(metric, float))
    spearman = float(np.corrcoef(a, b)[0, 1])
    both = [
        (np.sign(people[i] - people[j]), np.sign(metric[i] - metric[j]))
        for i, j in itertools.combinations(range(len(people)), 2)
    ]
    above = sum(x * y for x, y in both)
    below = (sum(x != 0 for x, _ in both) * sum(y != 0 for _, y in both)) ** 0.5
    return spearman, above / below


def test_ranks_share_ties() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]


@settings(deadline=None, max_examples=40)
@given(numbers, st.randoms(use_true_random=False))
def test_coefficients_are_those_of_the_definition(rows, rng: random.Random) -> None:
    people, metric = ([float(row[i]) for row in rows] for i in (0, 1))
    found = agreement(people, metric, [rng.choice("pqr") for _ in rows])
    assert found is not None
    if len(set(people)) == 1 or len(set(metric)) == 1:
        assert found.spearman.mean is None
        assert found.kendall.mean is None
        return
    spearman, kendall = by_definition(people, metric)
    assert found.spearman.mean == pytest.approx(spearman, abs=1e-9)
    assert found.kendall.mean == pytest.approx(kendall, abs=1e-9)


def test_pairs_are_those_of_one_prompt() -> None:
    """Within each prompt the metric is right, across them it is wrong."""
    people, metric, prompts = [1.0, 2, 11, 12], [11.0, 12, 1, 2], ["p", "p", "q", "q"]
    found = agreement(people, metric, prompts)
    assert found is not None
    assert found.pairs.mean == 1
    assert found.spearman.mean is not None
    assert found.spearman.mean < 0
    half = agreement([1, 2], [5, 5], ["p", "p"])
    assert half is not None
    assert half.pairs.mean == 0.5
    none = agreement([1, 2], [3, 4], ["p", "q"])
    assert none is not None
    assert none.pairs.mean is None


def test_perfect_and_reversed_agreement() -> None:
    people = [float(i) for i in range(12)]
    prompts = [f"p{i % 4}" for i in range(12)]
    for metric, value in ((people, 1.0), ([-x for x in people], -1.0)):
        found = agreement(people, metric, prompts)
        assert found is not None
        assert found.spearman.mean == pytest.approx(value)
        assert found.kendall.mean == pytest.approx(value)
        assert found.pairs.mean == (value + 1) / 2
    assert agreement([1.0], [2.0], ["p"]) is None


def test_one_prompt_has_no_interval() -> None:
    found = agreement([1, 2, 3], [1, 3, 2], ["p"] * 3)
    assert found is not None
    assert (found.kendall.low, found.kendall.note) == (None, "one prompt alone")


def test_intervals_cover_the_truth() -> None:
    """Correlated pairs with an effect of the prompt: Kendall's τ of the bivariate normal is 2 asin(ρ) / π."""
    rng, rho, covered = np.random.default_rng(0), 0.6, 0
    for _ in range(60):
        rows = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=(24, 4)).reshape(-1, 2)
        found = agreement(rows[:, 0], rows[:, 1], [f"p{i // 4}" for i in range(96)])
        assert found is not None
        assert found.kendall.low is not None
        assert found.kendall.high is not None
        covered += found.kendall.low <= 2 * np.arcsin(rho) / np.pi <= found.kendall.high
    assert covered >= 50


def test_equal_scores_give_equal_intervals() -> None:
    people, metric = np.random.default_rng(1).normal(size=(2, 30))
    prompts = [f"p{i % 5}" for i in range(30)]
    assert agreement(people, metric, prompts) == agreement(people, metric, prompts)
