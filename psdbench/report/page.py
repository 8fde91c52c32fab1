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

from psdbench.report.blocks import Table
from psdbench.report.cost import AXES, quality_against
from psdbench.report.gallery import Gallery, gallery, shown_metric
from psdbench.report.hacking import drift_table, gains, gains_table
from psdbench.report.html import render, sha256
from psdbench.report.imagery import read_imagery
from psdbench.report.plots import Plot, cost_plot, gains_plot
from psdbench.report.points import read_points
from psdbench.report.tables import table_of
from psdbench.store import atomic

if TYPE_CHECKING:
    from psdbench.report import Report
    from psdbench.report.analysis import Metric

PLOTS = "plots"
PROMPTS = "By prompt"


@dataclass(frozen=True)
class Section:
    """A part of the page: tables and figures under one heading."""

    title: str
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    intro: str = ""

    @property
    def id(self) -> str:
        """Where links lead to."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def write_page(path: Path, report: Report) -> None:
    """Write the page, and its figures as SVG with their data as CSV into `plots/` beside it."""
    for name, text in page_files(path, report).items():
        atomic.write_text(path.parent / name, text)


def page_files(path: Path, report: Report) -> dict[str, str]:
    """The texts of the page and of its figures by their names in its folder, which `path` is in."""
    imagery, points = read_imagery(report.results), read_points(report.results)
    pictures = gallery(report.results, report.analysis, imagery, points, path.parent)
    sections = _sections(report, drift_table(report.analysis, report.results, imagery))
    texts = {}
    for plot in (plot for section in sections for plot in section.plots):
        texts[f"{PLOTS}/{plot.name}.svg"] = plot.svg
        texts[f"{PLOTS}/{plot.name}.csv"] = table_of(plot.data)
    return {**texts, path.name: render_report(report, sections, pictures)}


def _sections(report: Report, drift: Table | None) -> list[Section]:
    """The content, with what only the page has: figures, the hacking panel, the drift of the pictures."""
    analysis, results, said = report.analysis, report.results, report.content
    hacking = [table for table in (gains_table(analysis, results), drift) if table]
    metric = shown_metric(analysis)
    costs = (_cost(report, metric, axis) for axis in AXES) if metric else ()
    gained = gains_plot(gains(analysis, results))
    final = "Final scores over the mean cost of a job."
    found = [
        Section("Results", [*said.results, *said.surety]),
        Section("Is the gain real?", hacking, [gained] if gained else []),
        Section("Quality against compute", said.cost, [plot for plot in costs if plot], final),
        Section(PROMPTS, said.prompts),
        Section("Are the metrics valid?", said.validity),
        Section("Without a result", said.failures),
        Section("Provenance", said.provenance),
    ]
    return [section for section in found if section.tables or section.plots]


def _cost(report: Report, metric: Metric, axis: str) -> Plot | None:
    points = quality_against(report.analysis, report.results, metric, axis)
    return cost_plot(points, axis, metric.id, metric.higher_is_better)


def render_report(report: Report, sections: Sequence[Section], pictures: Gallery) -> str:
    """The page; equal content gives equal bytes."""
    from markupsafe import Markup

    plotly, plotly_hash = packed_plotly() if pictures.turnable else ("", "")
    svgs = {plot.name: Markup(plot.svg) for section in sections for plot in section.plots}
    return render(
        "psdbench.report",
        "report",
        (plotly_hash,),
        title=report.content.title,
        verdict=report.content.verdict,
        sections=sections,
        prompts_title=PROMPTS,
        gallery=pictures,
        thumbs=pictures.thumbs,
        plotly=plotly,
        svgs=svgs,  # matplotlib escapes what is foreign in them
    )


@cache
def packed_plotly() -> tuple[str, str]:
    """plotly's JavaScript deflated, in base64, and the hash of what it unpacks to."""
    from plotly.offline import get_plotlyjs

    code = get_plotlyjs().replace("\r\n", "\n")
    return base64.b64encode(zlib.compress(code.encode(), 9)).decode(), sha256(code)
