"""The report as one HTML file that needs nothing else: tables, figures, strips, turntables and assets to turn.

Foreign text reaches the page through jinja2's autoescape or as JSON with < > & ' escaped. A content security
policy allows only the two scripts of this file, by their hashes, and no request to anywhere. plotly's JavaScript,
from the installed Python package, lies in the file deflated; it is unpacked when somebody asks for the first asset.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.report.blocks import Line, Table
from psdbench.report.cost import AXES, quality_against
from psdbench.report.gallery import Gallery, gallery, shown_metric
from psdbench.report.hacking import drift_table, gains, gains_table
from psdbench.report.html import render, sha256
from psdbench.report.imagery import chosen, read_imagery
from psdbench.report.plots import Plot, cost_plot, curves_plot, gains_plot
from psdbench.report.points import read_points
from psdbench.report.provenance import title
from psdbench.report.schema import DIGITS
from psdbench.report.tables import table_of
from psdbench.report.text import count
from psdbench.report.trajectory import curves
from psdbench.store import atomic

if TYPE_CHECKING:
    from psdbench.report.output import Output
    from psdbench.report.single import Report

PLOTS = "plots"
ENDS = (
    "Final scores over the mean cost of a job; how quality grows on the way is drawn where a run has "
    "--snapshots."
)
PROMPTS = "By prompt"


@dataclass(frozen=True)
class Section:
    """A group of tables and figures under one heading."""

    title: str
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    intro: str = ""

    @property
    def id(self) -> str:
        """Where links lead to."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True)
class PagePart:
    """What the page shows of one protocol; ids begin with `prefix`, which is empty where there is only one."""

    prefix: str
    heading: str
    about: str
    """what was compared, in a line"""
    verdict: Sequence[Line]
    sections: Sequence[Section]
    gallery: Gallery


def write_page(path: Path, report: Output) -> None:
    """Write the page, and its figures as SVG with their data as CSV into `plots/` beside it."""
    for name, text in page_files(path, report).items():
        atomic.write_text(path.parent / name, text)


def page_files(path: Path, report: Output) -> dict[str, str]:
    """The texts of the page and of its figures by their names in its folder, which `path` is in."""
    count = len(report.parts)
    prefixes = [f"protocol-{number}-" for number in range(1, count + 1)] if count > 1 else [""]
    parts = [
        _part(part, prefix, path.parent, count) for part, prefix in zip(report.parts, prefixes, strict=True)
    ]
    texts = {}
    for plot in (plot for part in parts for section in part.sections for plot in section.plots):
        texts[f"{PLOTS}/{plot.name}.svg"] = plot.svg
        texts[f"{PLOTS}/{plot.name}.csv"] = table_of(plot.data)
    return {**texts, path.name: render_report(report, parts)}


def _part(report: Report, prefix: str, folder: Path, share: int) -> PagePart:
    """One protocol's part; pictures and points are as many as a page can hold, divided by the `share` parts."""
    imagery, points = read_imagery(report.results, share), read_points(report.results, share)
    pictures = gallery(
        report.results, report.analysis, imagery, points, folder, len(chosen(report.results, share))
    )
    drift = drift_table(report.analysis, report.results, imagery)
    said = report.content
    heading = f"{said.name}: {said.title}" if said.name else ""
    sections = _sections(report, drift, prefix)
    return PagePart(prefix, heading, _about(report), said.verdict, sections, pictures)


def _about(report: Report) -> str:
    """``2 methods on 24 prompts: 144 of 144 jobs finished, protocol 864db238359a``."""
    analysis = report.analysis
    compared = f"{count(len(analysis.methods), 'method')} on {count(len(analysis.prompts), 'prompt')}"
    finished, total = sum(analysis.finished.values()), sum(analysis.total.values())
    return f"{compared}: {finished} of {count(total, 'job')} finished, protocol {report.protocol[:DIGITS]}"


def _sections(report: Report, drift: Table | None, prefix: str) -> list[Section]:
    """The content, with what only the page has: figures, the hacking panel, the drift of the pictures."""
    analysis, results, said = report.analysis, report.results, report.content
    hacking = [table for table in (gains_table(analysis, results), drift) if table]
    spent, intro = _spent(report, prefix)
    gained = gains_plot(gains(analysis, results), prefix)
    found = [
        Section("Results", [*said.results, *said.surety]),
        Section("What people prefer", said.votes, intro=" ".join(line.whole for line in said.voters)),
        Section("Is the gain real?", hacking, [gained] if gained else []),
        Section("Quality against compute", said.cost, spent, intro),
        Section(PROMPTS, said.prompts),
        Section("Are the metrics valid?", said.validity),
        Section("Without a result", said.failures),
        Section("Provenance", said.provenance),
    ]
    return [section for section in found if section.tables or section.plots]


def _spent(report: Report, prefix: str) -> tuple[list[Plot], str]:
    """Curves where jobs have snapshots, also of the scorers that steered a method; else the end points alone."""
    analysis, results, metric = report.analysis, report.results, shown_metric(report.analysis)
    if metric is None:
        return [], ""
    steered = [m for m in analysis.metrics if m.trained_on and m != metric]
    wanted = [*((metric, axis) for axis in AXES), *((m, AXES[0]) for m in steered)]
    drawn = [
        curves_plot(curves(analysis, results, m, axis), axis, m.id, m.higher_is_better, prefix)
        for m, axis in wanted
    ]
    if found := [plot for plot in drawn if plot]:
        return (
            found,
            "Scores of snapshots over what had been spent; the last point of a curve is the finished asset.",
        )
    ends = [(quality_against(analysis, results, metric, axis), axis) for axis in AXES]
    plots = [cost_plot(points, axis, metric.id, metric.higher_is_better, prefix) for points, axis in ends]
    return [plot for plot in plots if plot], ENDS


def render_report(report: Output, parts: Sequence[PagePart]) -> str:
    """The page; equal content gives equal bytes."""
    from markupsafe import Markup

    turnable = any(part.gallery.turnable for part in parts)
    plotly, plotly_hash = packed_plotly() if turnable else ("", "")
    svgs = {plot.name: Markup(plot.svg) for part in parts for each in part.sections for plot in each.plots}
    return render(
        "psdbench.report",
        "report",
        (plotly_hash,),
        title=title(report.runs),
        lines=report.lines,
        differing=report.table,
        parts=parts,
        prompts_title=PROMPTS,
        galleries=[{"prefix": part.prefix, **part.gallery.data} for part in parts],
        plotly=plotly,
        svgs=svgs,  # matplotlib escapes what is foreign in them
    )


@cache
def packed_plotly() -> tuple[str, str]:
    """plotly's JavaScript deflated, in base64, and the hash of what it unpacks to."""
    from plotly.offline import get_plotlyjs

    code = get_plotlyjs().replace("\r\n", "\n")
    return base64.b64encode(zlib.compress(code.encode(), 9)).decode(), sha256(code)
