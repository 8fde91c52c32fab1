"""Comparisons: what is called better is better, what is told of wins and of power is right."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psdbench.report.comparison import (
    LEVEL,
    Comparison,
    compare,
    corrected,
    holm,
    improvement,
    interquartile_mean,
)
from psdbench.stats import Scores

METHODS, METRICS = 4, 3


def grid(values: np.ndarray) -> Scores:
    """Scores of an array [prompts, seeds]."""
    return {(f"p{i:03d}", j): float(v) for i, row in enumerate(values) for j, v in enumerate(row)}


def null_report(rng: np.random.Generator, prompts: int, seeds: int) -> dict[tuple[int, int], Comparison]:
    """Methods that differ from the baseline by noise alone, on metrics that resemble each other."""
    easy = rng.normal(size=(1, 1, prompts, 1))
    taste = rng.normal(size=(METHODS + 1, 1, prompts, 1))  # every method suits some prompts
    runs = rng.normal(size=(METHODS + 1, 1, prompts, seeds))
    scores = easy + 0.5 * taste + runs + 0.7 * rng.normal(size=(METHODS + 1, METRICS, prompts, seeds))
    return corrected(
        {
            (method, metric): compare(grid(scores[method, metric]), grid(scores[0, metric]))
            for method in range(1, METHODS + 1)
            for metric in range(METRICS)
        }
    )


def false_alarms(trials: int, prompts: int, seeds: int) -> float:
    """Share of reports in which at least one of the methods is called better or worse."""
    rng = np.random.default_rng(21)
    found = [any(each.sign for each in null_report(rng, prompts, seeds).values()) for _ in range(trials)]
    return float(np.mean(found))


def test_few_reports_call_anything_better_where_nothing_is() -> None:
    rate = false_alarms(60, 8, 2)
    assert rate <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / 60) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "seeds"), [(6, 3), (24, 3), (24, 1)])
def test_at_most_five_percent_of_reports_call_anything_better_where_nothing_is(
    prompts: int, seeds: int
) -> None:
    rate = false_alarms(2000, prompts, seeds)
    print(f"\n{prompts} prompts x {seeds} seeds: {rate:.2%} of null reports call anything better or worse")
    assert rate <= LEVEL


def rejected_by_closure(p: list[float]) -> list[bool]:
    """Closed testing with Bonferroni: a hypothesis falls when every set of hypotheses with it does."""
    indices = range(len(p))
    sets = [s for size in range(1, len(p) + 1) for s in combinations(indices, size)]
    return [all(min(p[j] for j in s) * len(s) <= LEVEL for s in sets if i in s) for i in indices]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert [each <= LEVEL for each in adjusted] == rejected_by_closure(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))


def test_holm_on_an_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_a_real_gain_is_found_and_signed() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(size=(24, 3))
    better = base + 0.5 + 0.3 * rng.normal(size=(24, 3))
    found = corrected({"up": compare(grid(better), grid(base)), "down": compare(grid(base), grid(better))})
    assert (found["up"].sign, found["down"].sign) == (1, -1)
    assert found["up"].wins.mean is not None
    assert found["up"].wins.mean > 0.9


def test_correction_can_take_a_difference_back() -> None:
    rng = np.random.default_rng(6)
    base = rng.normal(size=(12, 1))
    slight = grid(base + 0.35 + 0.5 * rng.normal(size=(12, 1)))
    alone = corrected({0: compare(slight, grid(base))})[0]
    nothing = {i: compare(grid(base + 0.5 * rng.normal(size=(12, 1))), grid(base)) for i in range(1, 12)}
    among = corrected({0: compare(slight, grid(base)), **nothing})[0]
    assert alone.sign == 1
    assert alone.difference.sign == among.difference.sign == 1
    assert among.sign == 0


def test_shares_of_wins() -> None:
    ours = {("a", 0): 2.0, ("a", 1): 1.0, ("b", 0): 5.0}
    theirs = {("a", 0): 1.0, ("a", 1): 1.0, ("b", 0): 9.0, ("c", 0): 0.0}
    found = compare(ours, theirs)
    assert found.wins.mean == pytest.approx((0.75 + 0) / 2)
    assert found.wins.n == 3
    assert compare(ours, theirs, higher_is_better=False).wins.mean == pytest.approx((0.25 + 1) / 2)


def test_improvement_is_mann_whitney_of_each_prompt() -> None:
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(8)
    ours, theirs = rng.integers(0, 5, size=(6, 4)), rng.integers(0, 4, size=(6, 3))
    expected = np.mean([mannwhitneyu(a, b).statistic / 12 for a, b in zip(ours, theirs, strict=True)])
    found = improvement(grid(ours), grid(theirs))
    assert found.mean == pytest.approx(expected)
    assert (found.n, found.prompts) == (24, 6)
    flipped = improvement(grid(ours), grid(theirs), -1)
    assert flipped.mean == pytest.approx(1 - expected)


def test_the_detectable_difference_is_found_in_four_of_five() -> None:
    rng = np.random.default_rng(9)
    prompts, trials = 12, 1500
    noise = rng.normal(size=(trials, prompts))
    planned = [
        corrected({0: compare(grid(n[:, None]), grid(np.zeros((prompts, 1))))})[0] for n in noise[:150]
    ]
    sizes = [each.detectable for each in planned if each.detectable]
    shift = float(np.mean(sizes))
    from scipy.stats import ttest_1samp

    found = np.mean(ttest_1samp(noise + shift, 0, axis=1).pvalue <= LEVEL)
    assert found == pytest.approx(0.8, abs=0.04)


def test_more_comparisons_need_a_larger_difference() -> None:
    rng = np.random.default_rng(10)
    each = compare(grid(rng.normal(size=(12, 2))), grid(np.zeros((12, 2))))
    alone, among = corrected({0: each})[0], corrected(dict.fromkeys(range(8), each))[0]
    assert alone.detectable is not None
    assert among.detectable is not None
    assert among.detectable > 1.2 * alone.detectable


def test_one_prompt_and_no_spread_tell_nothing() -> None:
    one = corrected({0: compare({("a", 0): 2.0}, {("a", 0): 1.0})})[0]
    same = corrected({0: compare({(p, 0): 2.0 for p in "abc"}, {(p, 0): 1.0 for p in "abc"})})[0]
    for each in (one, same):
        assert (each.p, each.adjusted, each.detectable, each.sign) == (None, None, None, 0)
    assert one.difference.note == "one prompt alone"


def test_the_interquartile_mean_forgets_outliers_and_covers() -> None:
    values = np.arange(40.0).reshape(8, 5)
    spoiled = values.copy()
    spoiled[7, 4] = 1e6
    assert interquartile_mean(grid(values)).mean == interquartile_mean(grid(spoiled)).mean == 19.5
    rng = np.random.default_rng(12)
    hits = 0
    for _ in range(60):
        found = interquartile_mean(grid(rng.normal(size=(10, 1)) + rng.normal(size=(10, 5))))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    assert hits >= 51  # of 57 expected, three standard deviations less
    assert interquartile_mean({}).mean is None
