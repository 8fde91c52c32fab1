"""What changes over a run by points that the user gives: factors of penalties, sides of the training render."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise


def factor(points: Sequence[str], name: str, progress: float) -> float:
    """The factor of a penalty at a progress in [0, 1], of points ``NAME@PROGRESS:FACTOR``.

    It is linear between the points of that name and constant before and after them; 1 without any.
    """
    places = sorted(p[1:] for p in map(factor_point, points) if p[0] == name)
    if not places:
        return 1.0
    for (start, before), (end, after) in pairwise(places):
        if start <= progress < end:
            return before + (after - before) * (progress - start) / (end - start)
    return places[0][1] if progress < places[0][0] else places[-1][1]


def factor_point(text: str) -> tuple[str, float, float]:
    """``NAME@PROGRESS:FACTOR`` to its parts; ValueError says what is wrong."""
    name, at, rest = text.partition("@")
    try:
        progress, value = (float(part) for part in rest.split(":"))
    except ValueError:
        progress = value = -1.0
    if not (at and name) or not 0 <= progress <= 1 or not 0 <= value < float("inf"):
        raise ValueError(f"'{text}' is not NAME@PROGRESS:FACTOR, such as orientation@0.5:1")
    return name, progress, value


def side(points: Sequence[str], size: int, progress: float) -> int:
    """The side of a training render at a progress in [0, 1], of points ``PROGRESS:SIDE``.

    It is `size` before any of them, and never more: what is rendered is enlarged for the prior, not reduced.
    """
    reached = [point for point in map(side_point, points) if point[0] <= progress]
    return min(size, max(reached)[1]) if reached else size


def side_point(text: str) -> tuple[float, int]:
    """``PROGRESS:SIDE`` to its parts; ValueError says what is wrong."""
    progress, _, side = text.partition(":")
    try:
        point = float(progress), int(side)
    except ValueError:
        point = -1.0, 0
    if not 0 <= point[0] <= 1 or point[1] < 1:
        raise ValueError(f"'{text}' is not PROGRESS:SIDE, such as 0:32")
    return point


def check_schedules(factors: Sequence[str], names: Collection[str], sides: Sequence[str]) -> None:
    """Raise ValueError for a point that cannot be read, or a penalty not in `names`."""
    for name, _, _ in map(factor_point, factors):
        if name not in names:
            raise ValueError(f"penalty_schedule names '{name}', none of {', '.join(sorted(names))}")
    for point in sides:
        side_point(point)
