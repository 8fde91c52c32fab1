"""Writing a report: which format goes into which file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.report import tables
from psdbench.report.blocks import Line, Table
from psdbench.report.document import document, opening, summary
from psdbench.report.latex import latex
from psdbench.report.results import CORRUPT, Result
from psdbench.store import atomic

if TYPE_CHECKING:
    from psdbench.report.single import Report

FOLDER, CONTACT = "report", "contact"
FORMATS = ("html", "latex", "md", "csv", "json", "parquet")
TEXTS = ("latex", "md", "csv", "json")
"""formats that can go to stdout"""


class Output(ABC):
    """A report of one protocol or of several, in every format."""

    runs: tuple[Path, ...]

    @property
    @abstractmethod
    def parts(self) -> Sequence[Report]:
        """The reports that it consists of, one for each protocol."""

    @property
    def differing(self) -> Mapping[str, Sequence[Any]]:
        """The fields in which the protocols differ; empty for one alone."""
        return {}

    @property
    def lines(self) -> Sequence[Line]:
        """What must be said before the parts."""
        return ()

    @property
    def table(self) -> Table | None:
        """What differs between the parts."""
        return None

    @property
    def corrupt(self) -> list[Result]:
        """Jobs whose files are not those of their manifest; they count as without a result."""
        return [result for part in self.parts for result in part.results if result.status == CORRUPT]

    def text(self, format: str) -> str:
        """The report for stdout: ``md`` (verdict and main tables), ``latex``, ``csv`` or ``json``."""
        if format == "csv":
            return tables.table_csv(self.parts)
        if format == "json":
            return tables.table_json(self.parts, self.differing)
        contents = [part.content for part in self.parts]
        return latex(contents) if format == "latex" else opening(self, map(summary, contents))

    def write_file(self, format: str, path: Path) -> None:
        """Write one format to a file; Markdown and HTML with the pictures that they link to beside it."""
        if format == "md":
            self._write_document(path)
        elif format == "html":
            from psdbench.report.page import write_page

            write_page(path, self)
        elif format == "parquet":
            from psdbench.report.tidy import write_parquet

            atomic.write_with(path, lambda place: write_parquet(place, self.parts))
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
        for name, texts in self.csv_files.items():
            atomic.write_texts(folder / name, texts)

    @property
    def csv_files(self) -> dict[str, Iterable[str]]:
        """The CSV files beside table.csv by name, each in parts."""
        files: dict[str, Iterable[str]] = {
            "scores.csv": tables.scores_csv(self.parts),
            "cost.csv": [tables.cost_csv(self.parts)],
            "columns.csv": [tables.columns_csv()],
        }
        if any(result.snapshots for part in self.parts for result in part.results):
            files["snapshots.csv"] = [tables.snapshots_csv(self.parts)]
        if any(part.validity.agreements or part.votes for part in self.parts):
            files["agreement.csv"] = [tables.agreement_csv(self.parts)]
        return files

    def _write_document(self, path: Path) -> None:
        from psdbench.report.sheets import draw_sheets

        written = []
        for number, part in enumerate(self.parts, 1):
            place = path.parent / CONTACT / (str(number) if len(self.parts) > 1 else "")
            pictures = draw_sheets(part.results, part.analysis.methods, place)
            written.append(document(part.content, part.results, pictures, path.parent))
        atomic.write_text(path, opening(self, written))
