"""The static figures of a report as SVG, each with the numbers that it shows.

Everything is drawn in one ink that the page recolours, so that a figure fits light and dark.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psdbench.report.blocks import Cell, Table, estimated, value
from psdbench.report.cost import Point
from psdbench.report.hacking import Gain
from psdbench.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#123456"
"""stands for the colour of the text; the SVG says currentColor instead"""
COLOURS = {"trained on": "#d1495b", "held out": "#3a7ca5", "truth": "#2a9d8f", "front": "#d1495b"}
MARKERS = {"trained on": "D", "held out": "o", "truth": "*"}


@dataclass(frozen=True)
class Plot:
    """A figure: file name without ending, what it shows in words, the SVG, and its data."""

    name: str
    caption: str
    svg: str
    data: Table


def gains_plot(gains: Sequence[Gain]) -> Plot | None:
    """Trained-on, held-out and true gains of every method, one line each."""
    shown = [gain for gain in gains if gain.value.mean is not None]
    if not shown:
        return None
    figure, axes = _figure(7.2, 0.5 + 0.28 * len(shown) + 0.5)
    for row, gain in enumerate(shown):
        _point(axes, gain.value, row, COLOURS[gain.kind], MARKERS[gain.kind])
    axes.axvline(0, color=INK, linewidth=0.8)
    for row in (i for i in range(1, len(shown)) if shown[i].method != shown[i - 1].method):
        axes.axhline(row - 0.5, color=INK, linewidth=0.4, alpha=0.4)
    axes.set_yticks(range(len(shown)), [f"{g.method}: {g.metric}" for g in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("paired gain, standard deviations of the baseline between prompts")
    for kind in dict.fromkeys(gain.kind for gain in shown):
        axes.plot([], [], MARKERS[kind], color=COLOURS[kind], label=kind)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, labelcolor=INK)
    rows = [[Cell(g.method), Cell(g.metric), Cell(g.kind), estimated(g.value, signed=True)] for g in shown]
    data = Table("Gains", ["method", "metric", "kind", "gain"], rows, left=3)
    caption = (
        "Gains on the trained-on scorer, on scorers held out and on the true preference, with 95 % intervals."
    )
    return Plot("gains", caption, _svg(figure, "gains"), data)


def _point(axes: Axes, result: Estimate, row: int, colour: str, marker: str) -> None:
    if result.low is not None and result.high is not None:
        axes.plot([result.low, result.high], [row, row], color=colour, linewidth=1.6)
    axes.plot([result.mean or 0.0], [row], marker, color=colour, markersize=8 if marker == "*" else 6)


def cost_plot(points: Sequence[Point], axis: str, metric: str, higher_is_better: bool) -> Plot | None:
    """Quality against one kind of cost, with the front of methods that nothing cheaper reaches."""
    if len(points) < 2:
        return None
    words = axis.replace("_", " ")
    figure, axes = _figure(5.4, 3.6)
    _scatter(axes, points)
    axes.margins(x=0.18, y=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{words} of a job")
    axes.set_ylabel(f"{metric} {'↑' if higher_is_better else '↓'}")
    rows = [
        [Cell(p.method), value(p.cost, f"{p.cost:.6g}"), estimated(p.quality), Cell("yes" if p.front else "")]
        for p in points
    ]
    caption = f"{metric} against {words}; red: no cheaper method has as good a mean (Pareto front)."
    data = Table(f"Quality against {words}", ["method", words, metric, "on the front"], rows)
    name = f"cost-{axis.replace('_', '-')}"
    return Plot(name, caption, _svg(figure, name), data)


def _scatter(axes: Axes, points: Sequence[Point]) -> None:
    """Means with their intervals and names; a step line joins those on the front."""
    for point in points:
        low, high, mean = point.quality.low, point.quality.high, point.quality.mean or 0.0
        if low is not None and high is not None:
            axes.plot([point.cost] * 2, [low, high], color=COLOURS["held out"], linewidth=1.4)
        axes.plot([point.cost], [mean], "o", color=COLOURS["front" if point.front else "held out"])
        axes.annotate(point.method, (point.cost, mean), (7, 5), textcoords="offset points", color=INK)
    front = [point for point in points if point.front]
    costs, means = [p.cost for p in front], [p.quality.mean or 0.0 for p in front]
    axes.step(costs, means, where="post", color=COLOURS["front"], linewidth=1, linestyle="--")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without state, its frame in the ink; `$` in a label is no formula."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False, "font.size": 10, "text.color": INK}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The SVG element alone, equal for equal data, with ids of its own so that several fit on a page."""
    import matplotlib

    file = io.StringIO()
    metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    style: dict[Any, Any] = {"svg.hashsalt": name, "svg.fonttype": "none", "text.parse_math": False}
    with matplotlib.rc_context(style):
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for kind in ("figure", "axes", "patch", "line2d", "text", "matplotlib.axis", "xtick", "ytick"):
        text = text.replace(f'id="{kind}_', f'id="{name}-{kind}_')
    return text
