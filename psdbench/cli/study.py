"""psdbench study: a page on which people vote on blinded pairs, and what their votes say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Ask people: export a page of blinded pairs to vote on, import the votes they send back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("export")
def export(
    run: Annotated[Path, typer.Argument(help="Run folder, such as results/NAME.")],
    pairs: Annotated[
        int, typer.Option(help="Pairs that a rater sees, beside the checks.", min=1, envvar="PSDBENCH_PAIRS")
    ] = 60,
) -> int:
    """Write RUN/study/study.html: one file, needs no network, names no method.

    Send that file to the raters and nothing else: key.json beside it says which methods they saw.
    """
    from psdbench.cli.output import say
    from psdbench.report.text import count
    from psdbench.study.export import FOLDER, KEY, export_study
    from psdbench.study.votes import read_key

    if (run / FOLDER / KEY).exists():
        from psdbench.errors import UsageError

        known = read_key(run)[0]
        raise UsageError(
            f"{run} has a study already, {known}: a new one would make its votes unreadable",
            f"move {run / FOLDER} away first",
        )
    page, items = export_study(run, pairs)
    checks = sum(item.check for item in items)
    shown = f"{count(len(items) - checks, 'pair')} and {count(checks, 'check')}"
    say(f"{shown}; key: {page.parent / KEY}")
    print(page)
    return 0


@app.command("import")
def import_(
    votes: Annotated[
        list[Path],
        typer.Argument(metavar="VOTES...", help="Files that the raters have saved, or their folder."),
    ],
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of the study. [searched for here and in results/]",
            envvar="PSDBENCH_RUN",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Rank the methods by votes, with intervals; agreement of the raters, and of every metric with them."""
    from psdbench.cli.output import print_json
    from psdbench.study.outcome import outcome
    from psdbench.study.votes import find_run, vote_files

    here = Path()
    places = (
        folder
        for parent in (here, here / "results")
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
    )
    files = vote_files(votes)
    found = outcome(run or find_run(files, places), files)
    if json:
        print_json(found.content)
    else:
        from psdbench.report.document import text_of

        print(text_of(found.lines, found.tables), end="")
    return 0
