"""Reports: a pure function of the manifests, scores and controls of runs, in all formats."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from psdbench.report import tables
from psdbench.report.analysis import Analysis, analyse
from psdbench.report.content import Content, content
from psdbench.report.document import document, summary
from psdbench.report.failures import worst_case
from psdbench.report.latex import latex
from psdbench.report.results import CORRUPT, Result, read_runs
from psdbench.report.validity import Validity, assess
from psdbench.store import atomic

FOLDER, CONTACT = "report", "contact"
FORMATS = ("html", "latex", "md", "csv", "json", "parquet")
TEXTS = ("latex", "md", "csv", "json")
"""formats that can go to stdout"""


@dataclass(frozen=True)
class Report:
    """The results of some runs and what follows from them."""

    runs: tuple[Path, ...]
    results: tuple[Result, ...]
    analysis: Analysis
    validity: Validity = field(default_factory=Validity)
    worst: Analysis | None = None
    """with failures counted as the worst score, where there are any"""

    @property
    def corrupt(self) -> list[Result]:
        """Jobs whose files are not those of their manifest; they count as without a result."""
        return [result for result in self.results if result.status == CORRUPT]

    @cached_property
    def content(self) -> Content:
        """What all formats say."""
        return content(self.runs, self.analysis, self.worst, self.results, self.validity)

    def text(self, format: str) -> str:
        """The report for stdout: ``md`` (verdict and main tables), ``latex``, ``csv`` or ``json``."""
        if format == "csv":
            return tables.table_csv(self.analysis)
        if format == "json":
            return tables.table_json(self.analysis, self.results[0].spec.protocol.hash)
        return latex(self.content) if format == "latex" else summary(self.content)

    def write_file(self, format: str, path: Path) -> None:
        """Write one format to a file; Markdown and HTML with the pictures that they link to beside it."""
        if format == "md":
            self._write_document(path)
        elif format == "html":
            from psdbench.report.page import write_page

            write_page(path, self)
        elif format == "parquet":
            from psdbench.report.tidy import write_parquet

            atomic.write_with(path, lambda place: write_parquet(place, self.results, self.analysis))
        else:
            atomic.write_text(path, self.text(format))

    def write_folder(self, folder: Path, formats: Collection[str] = FORMATS) -> list[Path]:
        """Write the formats into a folder; the main file of each.

        These are report.html, table.tex, report.md with its contact/, table.csv and other CSV files, table.json,
        scores.parquet.
        """
        names = {"latex": "table.tex", "csv": "table.csv", "json": "table.json", "parquet": "scores.parquet"}
        paths = {each: folder / names.get(each, f"report.{each}") for each in FORMATS if each in formats}
        for format, path in paths.items():
            self.write_file(format, path)
        if "csv" in formats:
            self._write_csv(folder)
        return list(paths.values())

    def _write_csv(self, folder: Path) -> None:
        for name, parts in self.csv_files.items():
            atomic.write_texts(folder / name, parts)

    @property
    def csv_files(self) -> dict[str, Iterable[str]]:
        """The CSV files beside table.csv by name, each in parts."""
        texts: dict[str, Iterable[str]] = {
            "scores.csv": tables.scores_csv(self.results, self.analysis),
            "cost.csv": [tables.cost_csv(self.results)],
            "columns.csv": [tables.columns_csv()],
        }
        if self.validity.agreements:
            texts["agreement.csv"] = [tables.agreement_csv(self.validity.agreements)]
        return texts

    def _write_document(self, path: Path) -> None:
        from psdbench.report.sheets import draw_sheets

        pictures = draw_sheets(self.results, self.analysis.methods, path.parent / CONTACT)
        atomic.write_text(path, document(self.content, self.results, pictures, path.parent))


def build_report(runs: Sequence[Path], baseline: str | None = None) -> Report:
    """Read the finished part of one or several runs and compute their figures.

    Raises UsageError when there are no jobs, when they follow different protocols (naming what differs), when
    one scorer name stands for different weights, or when the baseline is not among the methods.
    """
    results = read_runs(runs)
    validity = assess(runs, results)
    valid = {id: outcome.valid for id, outcome in validity.controls.items()}
    analysis = analyse(results, baseline, valid)
    blamed = worst_case(results, analysis.metrics)
    worst = analyse(blamed, analysis.baseline, valid) if blamed and analysis.baseline else None
    return Report(tuple(runs), tuple(results), analysis, validity, worst)
