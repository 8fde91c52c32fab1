"""Intervals: they cover, they repeat, they know what they cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from psdbench import stats
from psdbench.stats import Estimate, estimate, p_value, paired_difference


def simulate(
    rng: np.random.Generator, prompts: int, seeds: int, between: float, within: float
) -> stats.Scores:
    """Scores around 0 with the given deviations between prompts and between seeds."""
    values = between * rng.normal(size=(prompts, 1)) + within * rng.normal(size=(prompts, seeds))
    return {(f"p{i}", j): float(values[i, j]) for i in range(prompts) for j in range(seeds)}


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [6, 12, 24])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("between", "within"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.3, 1.0)])
def test_the_interval_covers_93_to_97_percent(
    prompts: int, seeds: int, between: float, within: float
) -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(2000):
        result = estimate(simulate(rng, prompts, seeds, between, within))
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= 0 <= result.high
    print(f"\n{prompts} prompts x {seeds} seeds, deviations {between}, {within}: {hits / 2000:.2%} covered")
    assert 0.93 <= hits / 2000 <= 0.97


@pytest.mark.parametrize(
    ("prompts", "seeds", "between", "within"),
    [(24, 3, 1.0, 1.0), (24, 3, 0.0, 1.0), (4, 1, 1.0, 0.0), (6, 3, 0.3, 1.0)],
)
def test_the_interval_covers(
    monkeypatch: pytest.MonkeyPatch, prompts: int, seeds: int, between: float, within: float
) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 400)
    rng = np.random.default_rng(1)
    trials = 600
    hits = 0
    for _ in range(trials):
        result = estimate(simulate(rng, prompts, seeds, between, within))
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= 0 <= result.high
    assert 0.925 <= hits / trials <= 0.975


def test_equal_scores_give_equal_intervals_in_any_order() -> None:
    scores = simulate(np.random.default_rng(2), 5, 3, 1.0, 1.0)
    assert estimate(scores) == estimate(dict(reversed(scores.items())))


def test_each_prompt_counts_once() -> None:
    scores = {("a", 0): 1.0, ("b", 0): 3.0, ("b", 1): 5.0, ("b", 2): 4.0}
    result = estimate(scores)
    assert (result.n, result.prompts, result.mean) == (4, 2, 2.5)


def test_one_prompt_has_no_interval() -> None:
    assert estimate({("a", 0): 1.0, ("a", 1): 2.0}) == Estimate(2, 1, 1.5, None, None, "one prompt alone")


def test_no_scores() -> None:
    assert estimate({}) == Estimate(0, 0, None, None, None, "no scores")
    assert estimate({}).sign == 0


def test_scores_that_are_all_alike_have_no_interval() -> None:
    result = estimate(
        {(p, 0): 1.0 for p in "abc"}, (0.0, 1.0)
    )  # three hits of three do not prove a rate of 1
    assert (result.mean, result.low, result.high) == (1.0, None, None)
    assert result.note == "all prompts alike"
    assert result.sign == 0


def test_an_interval_ends_at_the_bounds_of_the_scale() -> None:
    scores = {("a", 0): 0.9, ("b", 0): 1.0, ("c", 0): 1.0}
    free, bounded = estimate(scores), estimate(scores, (0.0, 1.0))
    assert free.high is not None
    assert free.high > 1.0 == bounded.high
    assert free.low == bounded.low


def test_pairing_removes_what_is_common() -> None:
    rng = np.random.default_rng(3)
    baseline = simulate(rng, 12, 2, 5.0, 0.1)
    better = {key: value + 0.5 + 0.05 * rng.normal() for key, value in baseline.items()}
    alone, paired = estimate(better), paired_difference(better, baseline)
    assert alone.sign == 0
    assert paired.sign == 1
    assert paired_difference(baseline, better).sign == -1
    assert paired.mean == pytest.approx(0.5, abs=0.05)


def test_only_common_pairs_are_compared() -> None:
    result = paired_difference({("a", 0): 1.0, ("b", 1): 5.0}, {("a", 0): 0.5, ("b", 0): 9.0})
    assert (result.n, result.mean) == (1, 0.5)


def test_the_interval_follows_the_skew_of_the_scores() -> None:
    rng = np.random.default_rng(4)
    result = estimate({(f"p{i}", 0): float(v) for i, v in enumerate(rng.exponential(size=20) ** 2)})
    assert result.mean is not None
    assert result.low is not None
    assert result.high is not None
    assert result.high - result.mean > 1.15 * (result.mean - result.low)


def test_the_p_value_is_that_of_students_paired_test() -> None:
    from scipy.stats import ttest_1samp

    scores = simulate(np.random.default_rng(5), 7, 2, 1.0, 1.0)
    means = [(scores[f"p{i}", 0] + scores[f"p{i}", 1]) / 2 for i in range(7)]
    assert p_value(scores) == pytest.approx(ttest_1samp(means, 0).pvalue, rel=1e-9)
    assert p_value({("a", 0): 1.0, ("a", 1): 2.0}) is None
    assert p_value({("a", 0): 1.0, ("b", 0): 1.0}) is None
    assert p_value({}) is None


def test_draws_in_chunks_weigh_every_prompt_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_CHUNK", 7)
    stats._weights.cache_clear()
    weights = stats._weights((3, 1, 2), 3000)
    stats._weights.cache_clear()
    assert weights.shape == (3000, 6)
    assert np.allclose(weights.sum(1), 1)
    assert np.allclose(weights.mean(0), [1 / 9] * 3 + [1 / 3] + [1 / 6] * 2, atol=0.012)
