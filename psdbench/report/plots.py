"""The static figures of a report as SVG, each with the numbers that it shows.

Everything is drawn in one ink that the page recolours, so that a figure fits light and dark.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psdbench.config import slug
from psdbench.report.blocks import Cell, Table, estimated, value
from psdbench.report.cost import Point
from psdbench.report.hacking import Gain
from psdbench.report.trajectory import Curve
from psdbench.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#123456"
"""stands for the colour of the text; the SVG says currentColor instead"""
PALETTE = ("#3a7ca5", "#d1495b", "#2a9d8f", "#e07a1f", "#8e6bbf", "#7a8b2a", "#c45ba0", "#5c7080")
POINTS = "os^Dvph*"
"""colour and marker by method, in turn"""
COLOURS = {"trained on": "#d1495b", "held out": "#3a7ca5", "truth": "#2a9d8f", "front": "#d1495b"}
MARKERS = {"trained on": "D", "held out": "o", "truth": "*"}
LETTER = 0.08
"""width of a letter of a label, inches"""


@dataclass(frozen=True)
class Plot:
    """A figure: file name without ending, what it shows in words, the SVG, and its data."""

    name: str
    caption: str
    svg: str
    data: Table


def gains_plot(gains: Sequence[Gain], prefix: str = "") -> Plot | None:
    """Trained-on, held-out and true gains of every method, one line each; the figure's name begins with `prefix`."""
    shown = [gain for gain in gains if gain.value.mean is not None]
    if not shown:
        return None
    labels = [f"{gain.method}: {gain.metric}" for gain in shown]
    width = max(6.0, 3.0 + LETTER * max(map(len, labels)))
    figure, axes = _figure(width, 0.5 + 0.28 * len(shown) + 0.5)
    for row, gain in enumerate(shown):
        _point(axes, gain.value, row, COLOURS[gain.kind], MARKERS[gain.kind])
    axes.axvline(0, color=INK, linewidth=0.8)
    for row in (i for i in range(1, len(shown)) if shown[i].method != shown[i - 1].method):
        axes.axhline(row - 0.5, color=INK, linewidth=0.4, alpha=0.4)
    axes.set_yticks(range(len(shown)), labels)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    # of the whole figure: beside long names the axes are narrower than it
    figure.supxlabel("paired gain, standard deviations between prompts", fontsize="medium", color=INK)
    for kind in dict.fromkeys(gain.kind for gain in shown):
        axes.plot([], [], MARKERS[kind], color=COLOURS[kind], label=kind)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, labelcolor=INK)
    rows = [[Cell(g.method), Cell(g.metric), Cell(g.kind), estimated(g.value, signed=True)] for g in shown]
    data = Table("Gains", ["method", "metric", "kind", "gain"], rows, left=3)
    caption = (
        "Gains on the trained-on scorer, on scorers held out and on the true preference, with 95 % intervals."
    )
    name = f"{prefix}gains"
    return Plot(name, caption, _svg(figure, name), data)


def _point(axes: Axes, result: Estimate, row: int, colour: str, marker: str) -> None:
    if result.low is not None and result.high is not None:
        axes.plot([result.low, result.high], [row, row], color=colour, linewidth=1.6)
    axes.plot([result.mean or 0.0], [row], marker, color=colour, markersize=8 if marker == "*" else 6)


def cost_plot(
    points: Sequence[Point], axis: str, metric: str, higher_is_better: bool, prefix: str = ""
) -> Plot | None:
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
    name = f"{prefix}cost-{axis.replace('_', '-')}"
    return Plot(name, caption, _svg(figure, name), data)


def _scatter(axes: Axes, points: Sequence[Point]) -> None:
    """Means with their intervals and names; a step line joins those on the front."""
    for point in points:
        low, high, mean = point.quality.low, point.quality.high, point.quality.mean or 0.0
        if low is not None and high is not None:
            axes.plot([point.cost] * 2, [low, high], color=COLOURS["held out"], linewidth=1.4)
        axes.plot([point.cost], [mean], "o", color=COLOURS["front" if point.front else "held out"])
        axes.annotate(point.method, (point.cost, mean), (7, 5), textcoords="offset points", color=INK)
    _steps(axes, [point for point in points if point.front], COLOURS["front"])


def curves_plot(
    curves: Sequence[Curve], axis: str, metric: str, higher_is_better: bool, prefix: str = ""
) -> Plot | None:
    """The scores of snapshots over what had been spent, one line for each method, and the front of all."""
    if not curves:
        return None
    words = axis.replace("_", " ")
    figure, axes = _figure(5.4, 3.8)
    for index, curve in enumerate(curves):
        _curve(axes, curve, PALETTE[index % len(PALETTE)], POINTS[index % len(POINTS)])
    front = sorted((p for curve in curves for p in curve.points if p.front), key=lambda p: p.cost)
    _steps(axes, front, INK)
    axes.margins(x=0.04, y=0.08)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{words} so far")
    axes.set_ylabel(f"{metric} {'↑' if higher_is_better else '↓'}")
    figure.legend(loc="outside upper center", ncols=min(4, len(curves) + 1), frameon=False, labelcolor=INK)
    rows = [
        [
            Cell(p.method),
            value(p.cost, f"{p.cost:.6g}"),
            estimated(p.quality),
            value(float(p.quality.n), str(p.quality.n)),
            Cell("yes" if p.front else ""),
        ]
        for curve in curves
        for p in curve.points
    ]
    caption = (
        f"{metric} of every method on its way against {words}, means with 95 % intervals; dashed: the Pareto front, "
        "points that nothing cheaper reaches."
    )
    header = ["method", words, metric, "n", "on the front"]
    name = f"{prefix}curve-{slug(metric)}-{slug(axis)}"
    return Plot(name, caption, _svg(figure, name), Table(f"{metric} against {words}", header, rows))


def _curve(axes: Axes, curve: Curve, colour: str, marker: str) -> None:
    costs = [point.cost for point in curve.points]
    for point in curve.points:
        if point.quality.low is not None and point.quality.high is not None:
            ends = [point.quality.low, point.quality.high]
            axes.plot([point.cost] * 2, ends, color=colour, linewidth=1.2, alpha=0.6)
    means = [point.quality.mean or 0.0 for point in curve.points]
    axes.plot(costs, means, marker=marker, color=colour, linewidth=1.6, markersize=5, label=curve.method)


def _steps(axes: Axes, front: Sequence[Point], colour: str) -> None:
    costs, means = [p.cost for p in front], [p.quality.mean or 0.0 for p in front]
    axes.step(costs, means, where="post", color=colour, linewidth=1, linestyle="--", label="Pareto front")


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
    style: Any = {"svg.hashsalt": name, "svg.fonttype": "none", "text.parse_math": False}
    with matplotlib.rc_context(style):
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for kind in ("figure", "axes", "legend", "patch", "line2d", "text", "matplotlib.axis", "xtick", "ytick"):
        text = text.replace(f'id="{kind}_', f'id="{name}-{kind}_')
    return text
