"""Is the gain real, or is the reward hacked? Trained-on beside held-out gains, and what the pictures drift to.

Gains on different scorers are compared in one unit: the standard deviation of the baseline's means between prompts.
A method that pleases people gains on scorers that it was not trained on, too; one that hacks its reward does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from psdbench.report.analysis import Analysis, Metric, scores_of
from psdbench.report.blocks import Cell, Table, estimated
from psdbench.report.comparison import Comparison, compare, corrected
from psdbench.report.imagery import STATISTICS, Imagery
from psdbench.report.results import Result
from psdbench.report.text import MISSING, count
from psdbench.report.verdict import TRUTH
from psdbench.stats import Estimate, Scores, estimate, prompt_means

LEARNED = ("aesthetic", "image_reward", "hps", "pickscore", "clip")
"""kinds of scorers that were learned from people or pictures, and can be fooled: an id begins with its kind"""


@dataclass(frozen=True)
class Gain:
    """What a method gains over the baseline on one scorer, in the baseline's deviations between prompts."""

    method: str
    metric: str
    kind: str
    """trained on, held out, or truth"""
    value: Estimate


def gains(analysis: Analysis, results: Sequence[Result]) -> list[Gain]:
    """Every method's gains: on what it was trained on, on learned scorers held out, and on the true preference."""
    found = []
    for method in (m for m in analysis.methods if analysis.comparisons and m != analysis.baseline):
        for metric in analysis.metrics:
            kind = _kind(metric, method)
            unit = _unit(analysis, results, metric)
            if kind and unit:
                difference = analysis.comparisons[method, metric.id].difference
                found.append(Gain(method, metric.id, kind, _scaled(difference, _sign(metric) / unit)))
    return found


def _kind(metric: Metric, method: str) -> str:
    if method in metric.trained_on:
        return "trained on"
    learned = any(metric.id == kind or metric.id.startswith(f"{kind}_") for kind in LEARNED)
    return "truth" if metric.id == TRUTH else "held out" if learned else ""


def _sign(metric: Metric) -> int:
    return 1 if metric.higher_is_better else -1


def _unit(analysis: Analysis, results: Sequence[Result], metric: Metric) -> float:
    means = prompt_means(scores_of(results, analysis.baseline or "", metric.id))
    return float(means.std(ddof=1)) if len(means) > 1 else 0.0


def _scaled(result: Estimate, factor: float) -> Estimate:
    if result.mean is None or result.low is None or result.high is None:
        return replace(result, mean=None if result.mean is None else result.mean * factor)
    low, high = sorted((result.low * factor, result.high * factor))
    return replace(result, mean=result.mean * factor, low=low, high=high)


def gains_table(analysis: Analysis, results: Sequence[Result]) -> Table | None:
    """One row per steered method: trained-on, held-out and true gain beside each other."""
    all_gains = gains(analysis, results)
    steered = list(dict.fromkeys(gain.method for gain in all_gains if gain.kind == "trained on"))
    if not steered:
        return None
    held = {m: [g.metric for g in all_gains if (g.method, g.kind) == (m, "held out")] for m in steered}
    together = corrected({m: _together(analysis, results, m, held[m]) for m in steered})
    rows = []
    for method in steered:
        own = {g.metric: g.value for g in all_gains if g.method == method}
        trained = [g.metric for g in all_gains if (g.method, g.kind) == (method, "trained on")]
        found = {id: analysis.comparisons[method, id].sign for id in own}
        rows.append(
            [
                Cell(method),
                Cell(", ".join(trained)),
                _told(own[trained[0]], found[trained[0]]),
                _told(together[method].difference, together[method].sign),
                Cell(count(len(held[method]), "scorer")),
                _told(own[TRUTH], found[TRUTH]) if TRUTH in own else Cell(MISSING),
            ]
        )
    header = ["method", "trained on", "gain on it", "mean gain held out", "over", "true preference"]
    notes = [
        f"Paired differences to {analysis.baseline} in standard deviations of its means between prompts, with 95 % "
        "intervals; bold where separable after Holm's correction, over all comparisons of the report or, of the "
        "means held out, over their column. Held out: learned scorers that had no say in the method. A gain on the "
        "trained-on scorer alone is one of the optimizer, not of the pictures."
    ]
    return Table("Real gain or hacked reward", header, rows, left=2, notes=notes)


def _told(gain: Estimate, sign: int) -> Cell:
    return estimated(gain, signed=True, mark="told" if sign else "")


def _together(
    analysis: Analysis, results: Sequence[Result], method: str, metrics: Sequence[str]
) -> Comparison:
    """Mean standardised gain over several scorers, for the prompts and seeds that all have scored."""
    parts: list[Scores] = []
    for metric in (m for m in analysis.metrics if m.id in metrics):
        factor = _sign(metric) / _unit(analysis, results, metric)
        ours = scores_of(results, method, metric.id)
        theirs = scores_of(results, analysis.baseline or "", metric.id)
        parts.append({key: factor * (ours[key] - theirs[key]) for key in ours if key in theirs})
    common = set.intersection(*(set(part) for part in parts)) if parts else set()
    gained = {key: fmean(part[key] for part in parts) for key in common}
    return compare(gained, dict.fromkeys(gained, 0.0))


def drift_table(
    analysis: Analysis, results: Sequence[Result], imagery: Mapping[Path, Imagery]
) -> Table | None:
    """Method x statistic of its pictures: the baseline's mean, and what the others differ by."""
    if analysis.baseline is None or not imagery:
        return None
    values = {
        (method, name): {
            r.key: imagery[r.folder].statistics[name]
            for r in results
            if r.label == method and r.folder in imagery and imagery[r.folder].statistics
        }
        for method in analysis.methods
        for name in STATISTICS
    }
    others = [method for method in analysis.methods if method != analysis.baseline]
    found = corrected(
        {(m, s): compare(values[m, s], values[analysis.baseline, s]) for m in others for s in STATISTICS}
    )
    base = [Cell(analysis.baseline), *(estimated(estimate(values[analysis.baseline, s])) for s in STATISTICS)]
    rows = [base]
    for method in others:
        cells = [found[method, s] for s in STATISTICS]
        told = (estimated(c.difference, signed=True, mark="told" if c.sign else "") for c in cells)
        rows.append([Cell(method), *told])
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in STATISTICS.items())
    note = (
        f"First row: means of {analysis.baseline}; below, paired differences to it, bold where separable after "
        f"Holm's correction over this table. From the stored renders of {count(len(imagery), 'job')}. {meanings}."
    )
    return Table("Drift of the pictures", ["method", *STATISTICS], rows, notes=[note])
