"""What votes say: strengths of methods after Bradley and Terry, agreement of raters after Krippendorff.

Bradley-Terry (Biometrika 39, 1952): P(i is preferred to j) = σ(s_i − s_j). A tie is half a vote for each. A weak
normal prior keeps strengths finite where a method never loses. Intervals: a bootstrap that draws prompts and, of
five raters or more, raters as well (the pigeonhole bootstrap of Owen, 2007), for the votes on one prompt and those
of one person resemble each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from psdbench.stats import ONE_PROMPT, RESAMPLES, SEED, Estimate
from psdbench.study.votes import CHOICES, Vote

Floats = NDArray[np.float64]
PRIOR_PRECISION = 0.05
"""of a strength: its standard deviation before any vote is 4.5, odds of 90 to 1"""
MANY_RATERS = 5
NEWTON_STEPS = 30


@dataclass(frozen=True)
class Strengths:
    """By method: strength, 0 on average, and the chance to be preferred to the average method; best first."""

    strength: dict[str, Estimate]
    chance: dict[str, Estimate]
    votes: int
    beats: dict[tuple[str, str], Estimate]
    """chance that the first of two methods is preferred to the second; 0.5 when they are alike"""


def bradley_terry(votes: Sequence[Vote]) -> Strengths:
    """Strengths with 95 % intervals; of one prompt alone without."""
    methods = sorted({method for vote in votes for method in (vote.item.a, vote.item.b)})
    prompts = sorted({vote.item.prompt for vote in votes})
    raters = sorted({vote.rater for vote in votes})
    wins = np.zeros((len(prompts), len(raters), len(methods), len(methods)))
    for vote in votes:
        a, b = methods.index(vote.item.a), methods.index(vote.item.b)
        place = wins[prompts.index(vote.item.prompt), raters.index(vote.rater)]
        place[a, b] += {"a": 1.0, "tie": 0.5, "b": 0.0}[vote.choice]
        place[b, a] += {"a": 0.0, "tie": 0.5, "b": 1.0}[vote.choice]
    found = strengths(_resampled(wins))
    order = np.argsort(-found[0], kind="stable")

    def told(values: Floats) -> Estimate:
        return _estimate(values, len(votes), len(prompts))

    results = {methods[i]: told(found[:, i]) for i in order}
    chance = {methods[i]: told(_chance(found[:, i])) for i in order}
    pairs = permutations(range(len(methods)), 2)
    beats = {(methods[i], methods[j]): told(_chance(found[:, i] - found[:, j])) for i, j in pairs}
    return Strengths(results, chance, len(votes), beats)


def _chance(strength: Floats) -> Floats:
    return 1 / (1 + np.exp(-strength))


def _resampled(wins: Floats) -> Floats:
    """Wins [P, K, M, M] summed as they are, then in resamples of prompts and raters, [1 + RESAMPLES, M, M]."""
    rng = np.random.default_rng(SEED)
    prompts, raters, methods, _ = wins.shape
    by_prompt = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES).astype(np.float64)
    by_rater = np.ones((RESAMPLES, raters))
    if raters >= MANY_RATERS:
        by_rater = rng.multinomial(raters, np.full(raters, 1 / raters), size=RESAMPLES).astype(np.float64)
    weights = (by_prompt[:, :, None] * by_rater[:, None, :]).reshape(RESAMPLES, -1)
    weights = np.vstack([np.ones((1, weights.shape[1])), weights])
    return (weights @ wins.reshape(prompts * raters, -1)).reshape(-1, methods, methods)


def strengths(wins: Floats) -> Floats:
    """The most likely strengths [R, M] of R tables of wins [R, M, M], by Newton's method on all at once."""
    tables, methods, _ = wins.shape
    played = wins + wins.transpose(0, 2, 1)
    won = wins.sum(-1)
    s = np.zeros((tables, methods))
    diagonal = np.arange(methods)
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(s[:, None, :] - s[:, :, None]))
        gradient = won - (played * p).sum(-1) - PRIOR_PRECISION * s
        curvature = -played * p * (1 - p)
        curvature[:, diagonal, diagonal] = -curvature.sum(-1) + PRIOR_PRECISION
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        s = s + step.clip(-2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return s - s.mean(-1, keepdims=True)


def _estimate(values: Floats, n: int, prompts: int) -> Estimate:
    if prompts == 1:
        return Estimate(n, prompts, float(values[0]), note=ONE_PROMPT)
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return Estimate(n, prompts, float(values[0]), float(low), float(high))


def krippendorff(votes: Sequence[Vote]) -> Estimate | None:
    """Krippendorff's α for nominal data over items with two votes or more, None without any such item.

    1 is perfect agreement, 0 what chance gives. α = 1 − (n − 1) Σ_u Σ_{c≠k} n_uc n_uk / (m_u − 1) / Σ_{c≠k} n_c n_k
    (Krippendorff, Content Analysis, 2004). Interval: bootstrap over items.
    """
    counts: dict[str, list[int]] = {}
    for vote in votes:
        counts.setdefault(vote.item.id, [0] * len(CHOICES))[CHOICES.index(vote.choice)] += 1
    table = np.array([row for row in counts.values() if sum(row) > 1], dtype=np.float64)
    if not len(table):
        return None
    sizes = table.sum(-1)
    disagreements = (sizes**2 - (table**2).sum(-1)) / (sizes - 1)
    rng = np.random.default_rng(SEED)
    weights = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=RESAMPLES)
    rows = np.vstack([np.ones(len(table)), weights]).astype(np.float64)
    totals = rows @ table
    n = totals.sum(-1)
    expected = n**2 - (totals**2).sum(-1)
    safe = expected > 0
    alpha = np.where(safe, 1 - (n - 1) * (rows @ disagreements) / np.where(safe, expected, 1.0), np.nan)
    known = alpha[1:][np.isfinite(alpha[1:])]
    if not np.isfinite(alpha[0]) or len(table) < 2 or not len(known):
        value = float(alpha[0]) if np.isfinite(alpha[0]) else None
        return Estimate(
            int(n[0]), len(table), value, note="all votes alike" if value is None else "one item alone"
        )
    low, high = np.percentile(known, (2.5, 97.5))
    return Estimate(int(n[0]), len(table), float(alpha[0]), float(low), float(high))
