"""What the results have cost: the table of a report, and which methods nothing cheaper is better than."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from statistics import fmean, median

from psdbench.budget import Budget
from psdbench.report.analysis import Analysis, Metric
from psdbench.report.blocks import Cell, Table, value
from psdbench.report.results import FINISHED, Result
from psdbench.report.text import MISSING
from psdbench.stats import Estimate

COLUMNS = {
    "steps": "steps",
    "denoiser forwards": "denoiser_forwards",
    "denoiser backwards": "denoiser_backwards",
    "reward calls": "reward_forwards",
    "decodes": "decodes",
    "seconds": "seconds",
}
AXES = ("denoiser_forwards", "seconds")
"""what quality is drawn against"""


@dataclass(frozen=True)
class Point:
    """A method at its mean cost; `front` where no other method is as good for less, by the means."""

    method: str
    cost: float
    quality: Estimate
    front: bool = False


def cost_table(analysis: Analysis, results: Sequence[Result]) -> Table | None:
    """Mean cost of a finished job by method, and the size of its gradients; network passes count images."""
    jobs = _costs(analysis, results)
    if not any(jobs.values()):
        return None
    first = analysis.baseline or analysis.methods[0]
    header = ["method", "n", *COLUMNS, f"time / {first}", "peak memory, MB", "gradient RMS"]
    rows = []
    for method, costs in jobs.items():
        time, reference = _mean(costs, "seconds"), _mean(jobs[first], "seconds")
        memory = max((cost["peak_memory_mb"] for cost in costs if "peak_memory_mb" in cost), default=None)
        sizes = [cost["gradient_rms_median"] for cost in costs if "gradient_rms_median" in cost]
        ratio = time / reference if time and reference else None
        cells = [_amount(_mean(costs, name)) for name in COLUMNS.values()]
        cells += [value(ratio, MISSING if ratio is None else f"{ratio:.2f}"), _amount(memory)]
        cells += [value(median(sizes), f"{median(sizes):.3g}") if sizes else Cell(MISSING)]
        rows.append([Cell(method), value(float(len(costs)), str(len(costs))), *cells])
    return Table("Cost", header, rows, notes=_notes(results))


def _notes(results: Sequence[Result]) -> list[str]:
    """What the columns mean, and what ended the jobs."""
    config = results[0].spec.protocol.optimize
    budget = Budget.of(config)
    notes = ["Means over finished jobs; passes through networks count images."]
    scale = "" if config.grad_norm == "none" else f", before grad_norm {config.grad_norm} scaled it"
    notes.append(f"Gradient RMS: that of the method's gradient on the latents, median over the steps{scale}.")
    if budget.unit != "steps":
        notes.append(f"Every job had {budget}, in as many steps as they paid for.")
    if budget.unit == "seconds":
        notes.append("Equal time is that of one machine under one load: no run repeats it exactly.")
    return notes


def quality_against(analysis: Analysis, results: Sequence[Result], metric: Metric, axis: str) -> list[Point]:
    """Every method with a cost on that axis, cheapest first."""
    points = []
    for method, costs in _costs(analysis, results).items():
        cost, quality = _mean(costs, axis), analysis.means[method, metric.id]
        if cost is not None and quality.mean is not None:
            points.append(Point(method, cost, quality))
    front = on_the_front(points, metric.higher_is_better)
    points.sort(key=lambda point: (point.cost, point.method))
    return [replace(point, front=point in front) for point in points]


def on_the_front(points: Iterable[Point], higher_is_better: bool) -> set[Point]:
    """The points that are better, by their means, than every other one of at most their cost (Pareto front)."""
    sign = 1 if higher_is_better else -1
    best, front = -inf, set()
    for point in sorted(points, key=lambda p: (p.cost, -sign * (p.quality.mean or 0.0), p.method)):
        if sign * (point.quality.mean or 0.0) > best:
            best = sign * (point.quality.mean or 0.0)
            front.add(point)
    return front


def _costs(analysis: Analysis, results: Sequence[Result]) -> dict[str, list[dict[str, float]]]:
    jobs: dict[str, list[dict[str, float]]] = {method: [] for method in analysis.methods}
    for result in results:
        if result.status == FINISHED and result.cost:
            jobs[result.label].append(result.cost)
    return jobs


def _mean(costs: Sequence[dict[str, float]], name: str) -> float | None:
    values = [cost[name] for cost in costs if name in cost]
    return fmean(values) if values else None


def _amount(number: float | None) -> Cell:
    if number is None:
        return Cell(MISSING)
    text = f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.1f}"
    return Cell(text, sort=number)
