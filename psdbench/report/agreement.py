"""How far a metric agrees with people: rank correlations with their ratings, with intervals over prompts.

People are the annotators of the embedded world (`true_preference`) or the raters of a public set. Three numbers,
each 1 for perfect agreement: Spearman's ρ and Kendall's τ-b over all items, and the share of pairs *of one prompt*
that the metric orders as people do (0.5 is chance), which is what a comparison of methods hangs on. Preference
models are comparable within a prompt only, so the last may be high where the first two are low.

Intervals: bootstrap over prompts with a fixed seed, for the items of one prompt resemble each other. All three
numbers are ratios of sums over pairs of prompts, so a replicate only weighs sums that are made once; for
Spearman the ranks stay those of the whole sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psdbench.stats import NO_SPREAD, ONE_PROMPT, RESAMPLES, SEED, Estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """The agreement of a metric with people over items that both have judged."""

    spearman: Estimate
    kendall: Estimate
    pairs: Estimate
    """share of the pairs of one prompt, ties of people left out, that are in the same order; a metric's tie is half"""


def agreement(people: Sequence[float], metric: Sequence[float], prompts: Sequence[str]) -> Agreement | None:
    """The agreement of N items' scores, each with its prompt; None for fewer than two items.

    Scores go up for better: turn those of a metric where lower is better. Ties share their ranks.
    """
    if len(people) < 2:
        return None
    x, y = np.asarray(people, dtype=np.float64), np.asarray(metric, dtype=np.float64)
    names, group = np.unique(np.asarray(prompts, dtype=object), return_inverse=True)
    weights = _weights(len(names))
    order, ties_x, ties_y, right, ordered = _pair_sums(x, y, group, len(names))
    kendall = _ratio(_square(weights, order), np.sqrt(_square(weights, ties_x) * _square(weights, ties_y)))
    pairs = _ratio(weights @ right, weights @ ordered)
    bounds = ((_spearman(x, y, group, weights), -1), (kendall, -1), (pairs, 0))
    return Agreement(*(_estimate(values, low, len(x), len(names)) for values, low in bounds))


def ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing their mean rank, [N]."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum()
    return (last - (count - 1) / 2)[place]


def _weights(prompts: int) -> Floats:
    """How often each prompt counts: once in row 0, then as drawn in each replicate, [1 + RESAMPLES, P]."""
    drawn = np.random.default_rng(SEED).multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES)
    return np.vstack([np.ones(prompts), drawn]).astype(np.float64)


def _spearman(x: Floats, y: Floats, group: NDArray[np.intp], weights: Floats) -> Floats:
    """Pearson's correlation of the ranks, for each row of weights."""
    a, b = ranks(x) - (len(x) + 1) / 2, ranks(y) - (len(y) + 1) / 2
    sums = [np.bincount(group, values) for values in (np.ones_like(a), a, b, a * b, a * a, b * b)]
    n, sa, sb, sab, saa, sbb = (weights @ each for each in sums)
    spread = np.maximum(saa - sa * sa / n, 0) * np.maximum(sbb - sb * sb / n, 0)
    return _ratio(sab - sa * sb / n, np.sqrt(spread))


def _pair_sums(x: Floats, y: Floats, group: NDArray[np.intp], count: int) -> tuple[Floats, ...]:
    """Sums over pairs of items, by the prompts of the two, [P, P]: of sign(Δx) sign(Δy), of untied Δx and Δy.

    And by prompt [P], over its own pairs that people order: those in the same order, and all.
    """
    order, ties_x, ties_y = (np.zeros((count, count)) for _ in range(3))
    right, ordered = np.zeros(count), np.zeros(count)
    for i in range(len(x)):
        dx, dy = np.sign(x[i] - x), np.sign(y[i] - y)
        p = group[i]
        order[p] += np.bincount(group, dx * dy, count)
        ties_x[p] += np.bincount(group, dx * dx, count)
        ties_y[p] += np.bincount(group, dy * dy, count)
        own = (group == p) & (dx != 0)
        right[p] += ((1 + dx * dy) / 2)[own].sum()
        ordered[p] += own.sum()
    return order, ties_x, ties_y, right, ordered


def _square(weights: Floats, table: Floats) -> Floats:
    """wᵀ T w for each row of weights."""
    return np.einsum("rp,rp->r", weights @ table, weights)


def _ratio(above: Floats, below: Floats) -> Floats:
    """above / below; NaN where there is nothing to divide by."""
    safe = below > 1e-12
    return np.where(safe, above / np.where(safe, below, 1.0), np.nan)


def _estimate(values: Floats, low: float, n: int, prompts: int) -> Estimate:
    """The value of row 0 with the 2.5 and 97.5 percentiles of the others, within [low, 1]."""
    value, replicates = values[0], values[1:][np.isfinite(values[1:])]
    if not np.isfinite(value):
        return Estimate(n, prompts, None, note=NO_SPREAD)
    if prompts == 1:
        return Estimate(n, prompts, float(value), note=ONE_PROMPT)
    ends = np.percentile(replicates, (2.5, 97.5)).clip(low, 1)
    return Estimate(n, prompts, float(value), float(ends[0]), float(ends[1]))
