"""Jobs without a result: what the report makes of them, and whether its conclusions hang on that.

Policy: they are rows of their own and no part of any mean. Where jobs diverged or failed, which may well be the
method's doing, everything is computed once more with each of them counted as the worst score that any job of the
report has; conclusions that change are named. Unfinished and corrupt jobs say nothing of a method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psdbench.report.analysis import Analysis, Metric
from psdbench.report.blocks import Line
from psdbench.report.results import FINISHED, MAJORITY, Result, Score
from psdbench.report.text import count, enumeration

BLAMED = ("diverged", "failed")
SHOWN = 6
"""changed conclusions that are named; of more, their number is told"""


def worst_case(results: Sequence[Result], metrics: Sequence[Metric]) -> list[Result] | None:
    """The results with every failure counted as the worst score of all; None without failures or scores."""
    if not metrics or not any(result.status in BLAMED for result in results):
        return None
    worst = {metric.id: _worst(results, metric) for metric in metrics}
    return [replace(r, scores=worst) if r.status in BLAMED else r for r in results]


def _worst(results: Sequence[Result], metric: Metric) -> Score:
    means = [r.scores[metric.id].mean for r in results if metric.id in r.scores]
    known = [mean for mean in means if mean is not None]
    pick = min if metric.higher_is_better else max
    return Score(metric.sha256, metric.higher_is_better, (pick(known),) if known else (None,))


def missing(results: Sequence[Result]) -> str:
    """``2 of 24 jobs without a result (1 diverged, 1 failed)``, empty when all have one."""
    states = [result.status for result in results if result.status != FINISHED]
    if not states:
        return ""
    kinds = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return f"{len(states)} of {count(len(results), 'job')} without a result ({kinds})"


def sensitivity(analysis: Analysis, worst: Analysis | None, results: Sequence[Result]) -> list[Line]:
    """What is missing, how it is treated, and which conclusions change when failures count as the worst score."""
    if not missing(results) or not analysis.metrics:
        return []
    lines = [Line(f"{missing(results)}; every mean is over the jobs that have a result.")]
    if worst is None or not analysis.comparisons:
        return lines
    failed = count(sum(result.status in BLAMED for result in results), "job")
    changes = [
        f"{method} on {id} from {_word(analysis, method, id)} to {_word(worst, method, id)}"
        for method, id in analysis.comparisons
        if id != MAJORITY and _word(analysis, method, id) != _word(worst, method, id)
    ]
    outcome = f"changes {enumeration(changes[:SHOWN])}" if changes else "changes no conclusion"
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    text = f"counting the {failed} that diverged or failed as the worst score of all {outcome}{more}."
    return [*lines, Line(text, "Sensitivity:")]


def _word(analysis: Analysis, method: str, id: str) -> str:
    found, metric = analysis.comparisons.get((method, id)), analysis.metric(id)
    if found is None or metric is None or not found.sign:
        return "not separable"
    return "better" if (found.sign > 0) == metric.higher_is_better else "worse"
