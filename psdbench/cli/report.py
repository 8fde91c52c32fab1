"""psdbench report: tables, intervals and pictures from one or several runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from psdbench.report import Report

SHOWN = 5
"""corrupt jobs that are told one by one; the report lists all"""


class Format(StrEnum):
    """What goes to stdout, or into the file of --output."""

    md = "md"
    csv = "csv"
    json = "json"


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, such as results/NAME.")],
    format: Annotated[
        Format, typer.Option("--format", help="What goes to stdout or FILE.", envvar="PSDBENCH_FORMAT")
    ] = Format.md,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Method to compare with. [sds, where it is]", envvar="PSDBENCH_BASELINE", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="A file for this format, or a folder for everything. [RUN/report]",
            envvar="PSDBENCH_OUTPUT",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Compare the methods of runs: means, intervals, paired differences, cost and contact sheets.

    Works from whatever part of a run is finished and says how much that is.

    Without --output all goes into RUN/report (of several runs: nowhere) and the table to stdout.
    """
    from psdbench.cli.output import say
    from psdbench.errors import CorruptResult
    from psdbench.report import build_report

    made = build_report(runs, baseline)
    _write(made, format, output)
    for result in made.corrupt[:SHOWN]:
        say(f"corrupt: {result.reason}")
    if len(made.corrupt) > SHOWN:
        say(f"corrupt: {len(made.corrupt) - SHOWN} more")
    return CorruptResult.exit_code if made.corrupt else 0


def _write(made: Report, format: Format, output: Path | None) -> None:
    from psdbench.cli.output import say
    from psdbench.report import FOLDER
    from psdbench.store import atomic

    if output is not None and output.suffix and not output.is_dir():
        if format is Format.md:
            made.write_document(output)
        else:
            atomic.write_text(output, made.text(format))
        say(f"written: {output}")
        return
    folder = output or (made.runs[0] / FOLDER if len(made.runs) == 1 else None)
    if folder is not None:
        made.write_folder(folder)
        say(f"written: {folder / 'report.md'}")
    print(made.text(format), end="")
