"""One method against another: is it better, how often, by how much, and could so few results have shown it?

The unit is the pair of results of one prompt and seed. A table holds many comparisons, so each difference has a
p-value and Holm's correction over its family: of a family in which nothing differs, at most 5 % of the reports
call anything better (Holm, Scand. J. Statist. 6, 1979). Shares of wins and the interquartile mean follow the
advice of Agarwal et al. (NeurIPS 2021, "rliable") for few runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, stdtrit
from scipy.stats import trim_mean

from psdbench.stats import (
    NO_SPREAD,
    ONE_PROMPT,
    RESAMPLES,
    SEED,
    Estimate,
    Scores,
    estimate,
    p_value,
    paired_difference,
    prompt_means,
)

Key = TypeVar("Key")
LEVEL = 0.05
"""the chance that a report calls a difference real although nothing differs"""
POWER = 0.8
"""the chance to find a difference of the minimum detectable size"""
MANY_SEEDS = 5
"""seeds of a prompt from which an interquartile mean is worth having"""


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline on one metric, by the (prompt, seed) pairs that both have."""

    difference: Estimate
    """method − baseline"""
    wins: Estimate
    """share of pairs in which the method is better, a tie is half; in [0, 1], 0.5 when nothing differs"""
    improvement: Estimate
    """chance that any run of the method beats any run of the baseline on the same prompt; in [0, 1]"""
    p: float | None = None
    """two-sided, of this comparison alone; None where there is no interval"""
    error: float | None = None
    """standard error of the difference, between prompts; None for one prompt or no spread"""
    adjusted: float | None = None
    """p after Holm's correction over the family that it is told with"""
    detectable: float | None = None
    """smallest difference that so many prompts find with 80 % power at the level of the family's first step"""

    @property
    def sign(self) -> int:
        """1 or -1 where the difference is separable from 0 after correction, else 0."""
        return self.difference.sign if self.adjusted is not None and self.adjusted <= LEVEL else 0


def compare(scores: Scores, baseline: Scores, higher_is_better: bool = True) -> Comparison:
    """All that can be said of two methods; `adjusted` and `detectable` wait for `corrected`."""
    pairs = {key: scores[key] - baseline[key] for key in scores if key in baseline}
    direction = 1 if higher_is_better else -1
    wins = {key: (1 + direction * float(np.sign(value))) / 2 for key, value in pairs.items()}
    return Comparison(
        difference=paired_difference(scores, baseline),
        wins=estimate(wins, (0.0, 1.0)),
        improvement=improvement(scores, baseline, direction),
        p=p_value(pairs),
        error=_error(pairs),
    )


def corrected(family: Mapping[Key, Comparison]) -> dict[Key, Comparison]:
    """The comparisons that are told together, with adjusted p and the difference that could have been found."""
    known = {key: each.p for key, each in family.items() if each.p is not None}
    adjusted = dict(zip(known, holm(known.values()), strict=True))
    return {
        key: replace(
            each,
            adjusted=adjusted.get(key),
            detectable=None if each.error is None else each.error * _effect(each, len(known)),
        )
        for key, each in family.items()
    }


def holm(p_values: Iterable[float]) -> list[float]:
    """Adjusted p-values in the order given: the k-th smallest of m is multiplied by m − k + 1, monotonically."""
    p = np.fromiter(p_values, dtype=np.float64)
    order = p.argsort(kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = steps.clip(max=1)
    return [float(each) for each in adjusted]


def improvement(scores: Scores, baseline: Scores, direction: int = 1) -> Estimate:
    """P(method beats baseline) over all pairs of runs of one prompt, ties half, averaged over prompts.

    Mann and Whitney's U of each prompt. Unlike the share of wins it does not pair by seed: it is the chance that
    the next run is better. `direction` is -1 where less is better.
    """
    ours, theirs = _grouped(scores), _grouped(baseline)
    shares = {}
    for prompt in ours.keys() & theirs.keys():
        signs = np.sign(ours[prompt][:, None] - theirs[prompt][None, :])
        shares[prompt, 0] = float((1 + direction * signs).mean() / 2)
    runs = sum(len(ours[prompt]) for prompt, _ in shares)
    return replace(estimate(shares, (0.0, 1.0)), n=runs)


def interquartile_mean(scores: Scores) -> Estimate:
    """Mean of the middle half of all scores, with its 95 % interval: outlying runs do not move it.

    The bootstrap draws prompts, then seeds; its deviations are rescaled, as those of the mean are, here to the
    jackknife's standard error over prompts times Student's t.
    """
    groups = [group for _, group in sorted(_grouped(scores).items())]
    if not groups:
        return Estimate(0, 0, None, note="no scores")
    values = np.concatenate(groups)
    n, prompts, mean = len(values), len(groups), float(trim_mean(values, 0.25))
    if prompts == 1:
        return Estimate(n, prompts, mean, note=ONE_PROMPT)
    without = np.array([_middle(groups[:i] + groups[i + 1 :]) for i in range(prompts)])
    error = float(np.sqrt((prompts - 1) / prompts * np.square(without - without.mean()).sum()))
    replicates = _resampled_middles(groups)
    if error <= 1e-9 * abs(mean) or not replicates.std():
        return Estimate(n, prompts, mean, note=NO_SPREAD)
    scale = error * float(stdtrit(prompts - 1, 0.975)) / (float(replicates.std()) * 1.959964)
    low, high = (mean + (float(q) - mean) * scale for q in np.percentile(replicates, (2.5, 97.5)))
    return Estimate(n, prompts, mean, low, high)


def _middle(groups: list[NDArray[np.float64]]) -> float:
    return float(trim_mean(np.concatenate(groups), 0.25))


def _resampled_middles(groups: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Interquartile means of resampled prompts and seeds, [RESAMPLES]; a drawn prompt draws `most` seeds."""
    rng = np.random.default_rng(SEED)
    most = max(map(len, groups))
    sizes = np.array([len(group) for group in groups])
    table = np.stack([np.resize(group, most) for group in groups])
    replicates = np.empty(RESAMPLES)
    rows = max(1, 2_000_000 // table.size)
    for start in range(0, RESAMPLES, rows):
        size = min(rows, RESAMPLES - start)
        prompts = rng.integers(len(groups), size=(size, len(groups)))
        seeds = (rng.random((*prompts.shape, most)) * sizes[prompts][..., None]).astype(np.int64)
        drawn = table[prompts[..., None], seeds].reshape(size, -1)
        replicates[start : start + size] = trim_mean(drawn, 0.25, axis=1)
    return replicates


def _grouped(scores: Scores) -> dict[str, NDArray[np.float64]]:
    """The scores of each prompt in the order of its seeds."""
    rows: dict[str, list[float]] = {}
    for prompt, seed in sorted(scores):
        rows.setdefault(prompt, []).append(scores[prompt, seed])
    return {prompt: np.array(row) for prompt, row in rows.items()}


def _error(pairs: Scores) -> float | None:
    """Standard error of the mean difference; None with fewer than two prompts, or without any spread."""
    means = prompt_means(pairs)
    error = float(means.std(ddof=1)) / len(means) ** 0.5 if len(means) > 1 else 0.0
    return error or None


def _effect(comparison: Comparison, family: int) -> float:
    """How many standard errors a difference needs: of the non-central t that lies beyond its limit in 80 %."""
    degrees = comparison.difference.prompts - 1
    limit = float(stdtrit(degrees, 1 - LEVEL / max(family, 1) / 2))
    return float(nctdtrinc(degrees, 1 - POWER, limit))
