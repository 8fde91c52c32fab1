"""psdbench report: tables, intervals, figures and pictures from one or several runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from psdbench.cli import options as o

if TYPE_CHECKING:
    from psdbench.report import Output

SHOWN = 5
"""corrupt jobs that are told one by one; the report lists all"""
SUFFIXES = {
    ".html": "html",
    ".tex": "latex",
    ".md": "md",
    ".csv": "csv",
    ".json": "json",
    ".parquet": "parquet",
}


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, such as results/NAME.")],
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="html, latex, md, csv, json, parquet; of a single one that is text, the table goes to stdout. [all]",
            envvar="PSDBENCH_FORMAT",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Method to compare with. [sds, where it is]", envvar="PSDBENCH_BASELINE", show_default=False
        ),
    ] = None,
    votes: o.Votes = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="A folder, or a file whose ending names the format. [RUN/report]",
            envvar="PSDBENCH_OUTPUT",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Compare the methods of runs: verdict, tables, figures, galleries one can turn, cost and provenance.

    Works from whatever part of a run is finished and says how much that is.

    Without --output all goes into RUN/report (of several runs: nowhere) and the verdict to stdout.
    """
    from psdbench.cli.output import say
    from psdbench.errors import CorruptResult
    from psdbench.report import build_report
    from psdbench.study.votes import vote_files

    formats = _formats(format)
    _check(formats, output)
    made = build_report(runs, baseline, vote_files(votes or ()))
    _write(made, formats, output)
    for result in made.corrupt[:SHOWN]:
        say(f"corrupt: {result.reason}")
    if len(made.corrupt) > SHOWN:
        say(f"corrupt: {len(made.corrupt) - SHOWN} more")
    return CorruptResult.exit_code if made.corrupt else 0


def _formats(given: list[str] | None) -> tuple[str, ...]:
    """The formats asked for, by commas and repeats; empty when none is named."""
    from psdbench.errors import unknown
    from psdbench.report import FORMATS

    names = [name.strip().lower() for text in given or () for name in text.split(",")]
    names = ["latex" if name == "tex" else "md" if name == "markdown" else name for name in names if name]
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    return tuple(dict.fromkeys(names))


def _check(formats: tuple[str, ...], output: Path | None) -> None:
    """Refuse a single file for several formats, or of an ending that is none, before hours of reading."""
    from psdbench.errors import UsageError

    if output is None or not _is_file(output):
        return
    if len(formats) > 1:
        raise UsageError(
            f"--output {output} is one file, not {len(formats)} formats", "name a folder instead"
        )
    if not formats and output.suffix not in SUFFIXES:
        raise UsageError(f"no format ends in '{output.suffix}'", f"use {', '.join(SUFFIXES)} or add --format")


def _is_file(output: Path) -> bool:
    return bool(output.suffix) and not output.is_dir()


def _write(made: Output, formats: tuple[str, ...], output: Path | None) -> None:
    from psdbench.cli.output import say
    from psdbench.report import FOLDER, FORMATS, TEXTS

    if output is not None and _is_file(output):
        made.write_file(formats[0] if formats else SUFFIXES[output.suffix], output)
        say(f"written: {output}")
        return
    folder = output or (made.runs[0] / FOLDER if len(made.runs) == 1 else None)
    if folder is not None:
        for path in made.write_folder(folder, formats or FORMATS):
            say(f"written: {path}")
    text = formats[0] if len(formats) == 1 and formats[0] in TEXTS else "md"
    print(made.text(text), end="")
