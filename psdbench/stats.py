"""Means with 95 % intervals for results that come in prompts and, within a prompt, in seeds.

The unit of chance is the prompt: two seeds of one prompt resemble each other, so more seeds do not stand for
more prompts. The interval comes from a hierarchical bootstrap: prompts are drawn with replacement, then seeds
within each drawn prompt. Taken as it is, that bootstrap is wrong twice: it counts the noise between seeds two
times (once in the means of the prompts, once more when seeds are drawn again), and percentiles of few prompts
are too narrow. The deviations of the replicates are therefore rescaled to the standard error between prompts
times Student's t; the bootstrap keeps the shape, its asymmetry above all. Simulated coverage of the nominal
95 %: 92 to 97 % from 2 to 24 prompts, where plain percentiles gave 75 to 99 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

RESAMPLES = 2000
SEED = 20260301
"""fixed, so that equal scores give equal intervals"""
ONE_PROMPT = "one prompt alone"
NO_SPREAD = "all prompts alike"
"""why a mean has no interval"""
_Z = 1.959964
_CHUNK = 400_000
"""draws that are held at once: some megabytes"""

Scores = Mapping[tuple[str, int], float]
"""one number per (prompt, seed)"""


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts, each counting once, and its 95 % interval.

    `n` counts (prompt, seed) pairs; `low` and `high` are None where `note` says why there is no interval, and
    `mean` is None where there is nothing to average.
    """

    n: int
    prompts: int
    mean: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies above or below zero, else 0."""
        if self.low is None or self.high is None:
            return 0
        return (self.low > 0) - (self.high < 0)


def estimate(scores: Scores, bounds: tuple[float, float] | None = None) -> Estimate:
    """The mean of scores over prompts with its interval, which ends at the `bounds` of the scale.

    Scores that are all alike have no interval: that nothing varied in n cases does not make the mean certain.
    """
    if not scores:
        return Estimate(0, 0, None, note="no scores")
    values, counts = _by_prompt(scores)
    means = prompt_means(scores)
    n, prompts, mean = len(values), len(counts), float(means.mean())
    if prompts == 1:
        return Estimate(n, prompts, mean, note=ONE_PROMPT)
    if np.ptp(means) <= 1e-9 * abs(mean):
        return Estimate(n, prompts, mean, note=NO_SPREAD)
    replicates = _weights(tuple(counts.tolist()), RESAMPLES) @ values
    error = float(means.std(ddof=1)) / prompts**0.5
    scale = error * float(stdtrit(prompts - 1, 0.975)) / (float(replicates.std()) * _Z)
    low, high = (mean + (float(q) - mean) * scale for q in np.percentile(replicates, (2.5, 97.5)))
    least, most = bounds or (-np.inf, np.inf)
    return Estimate(n, prompts, mean, float(max(low, least)), float(min(high, most)))


def paired_difference(scores: Scores, baseline: Scores) -> Estimate:
    """Mean difference to a baseline over the (prompt, seed) pairs that both have, with its interval.

    Prompt and seed fix cameras, noises and initial asset, so pairing removes what is common to both.
    """
    return estimate({key: scores[key] - baseline[key] for key in scores if key in baseline})


def p_value(differences: Scores) -> float | None:
    """Two-sided p of the hypothesis that differences are 0 on average: Student's t over the means of prompts.

    It has the standard error and the degrees of freedom of `estimate`'s interval, so the two differ only where
    the interval is skewed. None where there is no interval either.
    """
    means = prompt_means(differences)
    if len(means) < 2 or np.ptp(means) <= 1e-9 * abs(float(means.mean())):
        return None
    error = float(means.std(ddof=1)) / len(means) ** 0.5
    return float(2 * stdtr(len(means) - 1, -abs(float(means.mean())) / error))


def prompt_means(scores: Scores) -> NDArray[np.float64]:
    """The mean of every prompt over its seeds, prompts in their order, [P]."""
    if not scores:
        return np.empty(0)
    values, counts = _by_prompt(scores)
    return np.asarray(np.add.reduceat(values, _starts(counts)) / counts)


def _by_prompt(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All scores in the order of prompt and seed [N], and the number of seeds of each prompt [P]."""
    rows: dict[str, list[float]] = {}
    for prompt, seed in sorted(scores):
        rows.setdefault(prompt, []).append(scores[prompt, seed])
    return np.concatenate([np.array(row) for row in rows.values()]), np.array(
        [len(row) for row in rows.values()]
    )


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each prompt's scores begin [P]."""
    return np.cumsum(counts) - counts


@lru_cache(maxsize=4)
def _weights(counts: tuple[int, ...], resamples: int) -> NDArray[np.float64]:
    """What each score weighs in each bootstrap mean, [resamples, N]: prompts are drawn, then seeds within each.

    Methods that ran on the same prompts and seeds share these draws, so a table costs one drawing.
    """
    rng = np.random.default_rng(SEED)
    rows = max(1, _CHUNK // (len(counts) * max(counts)))
    chunks = (min(rows, resamples - start) for start in range(0, resamples, rows))
    return np.concatenate([_drawn(rng, np.array(counts), size) for size in chunks])


def _drawn(rng: np.random.Generator, counts: NDArray[np.int64], resamples: int) -> NDArray[np.float64]:
    """Some rows of `_weights`: a prompt with n seeds draws n of them, each weighing 1 / n of the prompt."""
    total, starts = int(counts.sum()), _starts(counts)
    prompts = rng.integers(len(counts), size=(resamples, len(counts)))
    drawn = counts[prompts][..., None]
    seeds = (rng.random((*prompts.shape, int(counts.max()))) * drawn).astype(np.int64)
    weights = np.empty((resamples, total))
    for row in range(resamples):  # one by one, for all at once take much memory
        places = starts[prompts[row]][:, None] + seeds[row]
        kept = np.arange(seeds.shape[-1]) < drawn[row]
        shares = np.broadcast_to(1 / (drawn[row] * len(counts)), places.shape)
        weights[row] = np.bincount(places[kept], shares[kept], minlength=total)
    return weights
