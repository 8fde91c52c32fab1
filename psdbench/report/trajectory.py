"""Quality on the way: the scores of snapshots over what had been spent, method by method, and the front of all.

A curve is of the jobs that have all snapshots of the method and their final scores, so that every point of it is a
mean over the same prompts and seeds. Its interval is that of the mean; whether two methods differ, the paired
differences tell better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from psdbench.report.analysis import Analysis, Metric
from psdbench.report.cost import Point, on_the_front
from psdbench.report.results import FINISHED, Result, Snapshot
from psdbench.scorers.catalogue import scale
from psdbench.stats import estimate


@dataclass(frozen=True)
class Curve:
    """The points of one method, cheapest first; the last one is the finished asset."""

    method: str
    points: tuple[Point, ...]


def curves(analysis: Analysis, results: Sequence[Result], metric: Metric, axis: str) -> list[Curve]:
    """One curve for each method with snapshots, in the order of the report.

    A point is on the front where no other point of any method is as good for less, by the means.
    """
    found = [Curve(method, _points(method, results, metric, axis)) for method in analysis.methods]
    found = [curve for curve in found if len(curve.points) > 1]
    points = [point for curve in found for point in curve.points]
    front = on_the_front(points, metric.higher_is_better)
    return [
        replace(curve, points=tuple(replace(p, front=p in front) for p in curve.points)) for curve in found
    ]


def _points(method: str, results: Sequence[Result], metric: Metric, axis: str) -> tuple[Point, ...]:
    own = [r for r in results if r.label == method and r.status == FINISHED and r.snapshots]
    whole = [(result, with_end(result)) for result in own]
    shares = Counter(tuple(each.share for each in steps) for _, steps in whole)
    if not shares:
        return ()
    common = max(shares, key=lambda each: (shares[each], len(each)))
    jobs = [
        (result, steps)
        for result, steps in whole
        if tuple(each.share for each in steps) == common and all(_has(each, metric, axis) for each in steps)
    ]
    points = []
    for place in range(len(common)) if jobs else ():
        spent = fmean(steps[place].cost[axis] for _, steps in jobs)
        reached = {result.key: steps[place].means[metric.id] for result, steps in jobs}
        points.append(Point(method, spent, estimate(reached, scale(metric.id))))
    return tuple(points)


def with_end(result: Result) -> list[Snapshot]:
    """The snapshots of a job and, as the last one, its end."""
    means = {id: score.mean for id, score in result.scores.items()}
    end = Snapshot(1.0, result.cost, {id: mean for id, mean in means.items() if mean is not None})
    return [*result.snapshots, end]


def _has(snapshot: Snapshot, metric: Metric, axis: str) -> bool:
    return metric.id in snapshot.means and axis in snapshot.cost
