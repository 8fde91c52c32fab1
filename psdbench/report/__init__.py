"""Reports: a pure function of the manifests, scores and controls of runs, as Markdown, CSV, JSON and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from psdbench.report import tables
from psdbench.report.analysis import Analysis, analyse
from psdbench.report.document import document, summary
from psdbench.report.results import CORRUPT, Result, read_runs
from psdbench.report.validity import Validity, assess
from psdbench.store import atomic

FOLDER, CONTACT = "report", "contact"


@dataclass(frozen=True)
class Report:
    """The results of some runs and what follows from them."""

    runs: tuple[Path, ...]
    results: tuple[Result, ...]
    analysis: Analysis
    validity: Validity = field(default_factory=Validity)

    @property
    def corrupt(self) -> list[Result]:
        """Jobs whose files are not those of their manifest; they count as without a result."""
        return [result for result in self.results if result.status == CORRUPT]

    def text(self, format: str) -> str:
        """The report for stdout: ``md`` (verdict and main tables), ``csv`` or ``json``."""
        if format == "csv":
            return tables.table_csv(self.analysis)
        if format == "json":
            return tables.table_json(self.analysis, self.results[0].spec.protocol.hash)
        return summary(self.analysis, self.results, self.validity)

    def write_document(self, path: Path) -> None:
        """Write the whole report in Markdown, with its contact sheets in ``contact/`` beside it."""
        from psdbench.report.sheets import draw_sheets

        pictures = draw_sheets(self.results, self.analysis.methods, path.parent / CONTACT)
        text = document(self.runs, self.analysis, self.results, self.validity, pictures, path.parent)
        atomic.write_text(path, text)

    def write_folder(self, folder: Path) -> None:
        """Write report.md, contact/, table.csv, table.json, cost.csv and, where known, agreement.csv."""
        for format in ("csv", "json"):
            atomic.write_text(folder / f"table.{format}", self.text(format))
        atomic.write_text(folder / "cost.csv", tables.cost_csv(self.results))
        if self.validity.agreements:
            atomic.write_text(folder / "agreement.csv", tables.agreement_csv(self.validity.agreements))
        self.write_document(folder / "report.md")


def build_report(runs: Sequence[Path], baseline: str | None = None) -> Report:
    """Read the finished part of one or several runs and compute their figures.

    Raises UsageError when there are no jobs, when they follow different protocols (naming what differs), when
    one scorer name stands for different weights, or when the baseline is not among the methods.
    """
    results = read_runs(runs)
    validity = assess(runs, results)
    valid = {id: outcome.valid for id, outcome in validity.controls.items()}
    return Report(tuple(runs), tuple(results), analyse(results, baseline, valid), validity)
