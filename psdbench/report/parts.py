"""The tables of a report, free of any markup: results, differences, shares of wins, values by prompt, failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psdbench.report.analysis import Analysis, Metric
from psdbench.report.blocks import Cell, Mark, Table, estimated, value, words
from psdbench.report.comparison import LEVEL, MANY_SEEDS, POWER, Comparison
from psdbench.report.results import FINISHED, MAJORITY, Result
from psdbench.report.text import MISSING, count, enumeration, number
from psdbench.stats import Estimate

REASON_LENGTH = 200


def head(metric: Metric) -> str:
    """``hps_shapes ↑``, with a ✗ where the metric did not rank its controls."""
    return f"{metric.id} {'↑' if metric.higher_is_better else '↓'}{' ✗' if metric.valid is False else ''}"


def means_table(analysis: Analysis) -> Table:
    """Method x metric: mean and interval, what was trained on, and what shares the top."""
    rows = [
        [
            Cell(method),
            value(float(analysis.finished[method]), str(analysis.finished[method])),
            *(_mean(analysis, method, metric) for metric in analysis.metrics),
        ]
        for method in analysis.methods
    ]
    header = ["method", "n", *map(head, analysis.metrics)]
    return Table("Results", header, rows, notes=_means_notes(analysis))


def _mean(analysis: Analysis, method: str, metric: Metric) -> Cell:
    result = analysis.means[method, metric.id]
    dagger = "†" if method in metric.trained_on else ""
    partial = f" (n={result.n})" if result.n != analysis.finished[method] else ""
    return estimated(result, suffix=f"{dagger}{partial}", mark=_mark(analysis, method, metric))


def _mark(analysis: Analysis, method: str, metric: Metric) -> Mark:
    top = analysis.tops.get(metric.id, frozenset())
    if method not in top or len(top) == len(analysis.methods):
        return ""
    return "best" if len(top) == 1 else "shared"


def _means_notes(analysis: Analysis) -> list[str]:
    """Footnotes, each only where the table needs it."""
    prompts = count(len(analysis.prompts), "prompt")
    interval = "with its 95 % interval from a bootstrap over prompts and seeds"
    told = f"each counting once, {interval}" if len(analysis.prompts) > 1 else "without interval"
    notes = [f"Mean over {prompts}, {told}; n counts jobs with a result."]
    notes += _lacking(analysis.means.values())
    if any(_mark(analysis, method, metric) for metric in analysis.metrics for method in analysis.methods):
        notes.append(
            "Bold: better than all others; underlined or in italics: not separable from the best mean, though some "
            "others are. By paired tests, Holm-corrected over all pairs of all columns."
        )
    elif any(len(top) > 1 for top in analysis.tops.values()):
        notes.append("None is marked as best: on no metric are two methods separable.")
    if any(metric.trained_on for metric in analysis.metrics):
        notes.append("† the method was steered by this very scorer: a training figure, not a test.")
    if analysis.metric(MAJORITY):
        notes.append(f"{MAJORITY}: share of assets that more than half of their views show rightly.")
    return notes


def _lacking(estimates: Iterable[Estimate]) -> list[str]:
    """Why some of these means have no interval."""
    reasons = sorted({each.note for each in estimates if each.n and each.note})
    return [f"Without interval: {enumeration(reasons)}."] if reasons else []


def differences_table(analysis: Analysis) -> Table | None:
    """Paired differences to the baseline, those that are separable from 0 after correction set off."""
    rows = []
    for method in _others(analysis):
        cells = [analysis.comparisons[method, metric.id] for metric in analysis.metrics]
        pairs = max((cell.difference.n for cell in cells), default=0)
        shown = (_difference(cell, pairs) for cell in cells)
        rows.append([Cell(method), value(float(pairs), str(pairs)), *shown])
    if not rows or not analysis.metrics:
        return None
    note = (
        "Mean over prompts of method − baseline on the same prompt and seed, with its 95 % interval. Bold: separable "
        f"from 0, that is the interval excludes 0 and p ≤ {LEVEL} after Holm's correction over all cells of this table."
    )
    header = ["method", "pairs", *map(head, analysis.metrics)]
    return Table(f"Paired difference to {analysis.baseline}", header, rows, notes=[note])


def _difference(cell: Comparison, pairs: int) -> Cell:
    partial = f" (pairs={cell.difference.n})" if cell.difference.n != pairs else ""
    return estimated(cell.difference, signed=True, suffix=partial, mark="told" if cell.sign else "")


def _others(analysis: Analysis) -> list[str]:
    return [m for m in analysis.methods if m != analysis.baseline] if analysis.comparisons else []


def wins_table(analysis: Analysis) -> Table | None:
    """One row per comparison: shares of wins, corrected p, and the difference that could have been found."""
    rows = []
    for method in _others(analysis):
        for metric in analysis.metrics:
            found = analysis.comparisons[method, metric.id]
            if found.difference.n:
                label = f"{metric.id}{'†' if method in metric.trained_on else ''}"
                cells = [estimated(found.wins), estimated(found.improvement)]
                numbers = [_probability(found.p), _probability(found.adjusted), value(found.detectable)]
                rows.append([Cell(method), Cell(label), *cells, *numbers])
    if not rows:
        return None
    notes = [
        f"Wins: share of the pairs of one prompt and seed in which the method is better than {analysis.baseline}. "
        "Improvement: chance that any run of it is better than any run of the baseline on the same prompt. Ties are "
        "half, 0.5 is chance.",
        *_lacking(found.wins for found in analysis.comparisons.values()),
        f"Detectable: the smallest difference that so many prompts would show in {POWER * 100:.0f} % of repetitions "
        "at the corrected level; what is smaller may be there unseen.",
    ]
    header = ["method", "metric", "wins", "improvement", "p", "p (Holm)", "detectable"]
    return Table("How often, how surely", header, rows, left=2, notes=notes)


def _probability(p: float | None) -> Cell:
    text = MISSING if p is None else "< 0.0001" if p < 0.0001 else f"{p:.4f}"
    return Cell(text, sort=p)


def middles_table(analysis: Analysis) -> Table | None:
    """Interquartile means, where there are many seeds."""
    shown = [
        m for m in analysis.metrics if any((method, m.id) in analysis.middles for method in analysis.methods)
    ]
    if not shown:
        return None
    rows = [
        [Cell(method)]
        + [
            estimated(analysis.middles[method, m.id]) if (method, m.id) in analysis.middles else Cell(MISSING)
            for m in shown
        ]
        for method in analysis.methods
    ]
    note = (
        f"Mean of the middle half of all scores, where every prompt has {MANY_SEEDS} seeds or more: outlying runs "
        "do not move it. 95 % intervals from a bootstrap over prompts and seeds."
    )
    return Table("Interquartile means", ["method", *map(head, shown)], rows, notes=[note])


def prompts_table(analysis: Analysis) -> Table | None:
    """Prompt x method: means over the seeds."""
    shown = [metric for metric in analysis.metrics if metric.id != MAJORITY]
    rows = []
    for prompt in analysis.prompts:
        for method in analysis.methods:
            cells = [analysis.by_prompt.get((prompt, method, metric.id)) for metric in shown]
            n = max((cell[0] for cell in cells if cell), default=0)
            values = [value(cell[1], number(cell[1])) if cell else Cell(MISSING) for cell in cells]
            rows.append([Cell(prompt), Cell(method), value(float(n), str(n)), *values])
    return Table("By prompt", ["prompt", "method", "n", *map(head, shown)], rows, left=2) if shown else None


def failures_table(results: Sequence[Result]) -> Table | None:
    """Every job without a result and every job with an unscored view."""
    rows = [
        words(r.label, r.spec.prompt, str(r.spec.seed), r.status, r.reason[:REASON_LENGTH])
        for r in results
        if r.status != FINISHED
    ]
    rows += [
        words(r.label, r.spec.prompt, str(r.spec.seed), "unscored view", scorer)
        for r in results
        for scorer, score in r.scores.items()
        if score.mean is None and scorer != MAJORITY
    ]
    header = ["method", "prompt", "seed", "status", "reason"]
    return Table("Without a result", header, rows, left=5) if rows else None
