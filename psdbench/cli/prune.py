"""`psdbench prune`: make room in a run folder without touching a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psdbench.cli import options as o
from psdbench.cli.output import print_columns, print_json, say


def prune(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, such as results/NAME.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    json: o.Json = False,
) -> int:
    """Remove checkpoints of ended jobs, damaged files that were set aside, and what killed writers left.

    Results, and the checkpoints of jobs that can be continued, stay.
    """
    from psdbench.store.prune import Waste, prune
    from psdbench.store.run import existing_run, job_folders

    found, busy = list[Waste](), 0
    for run in runs:
        for folder in job_folders(existing_run(run)):
            waste = prune(folder, dry_run)
            found += waste or []
            busy += waste is None
    if json:
        files = [{"path": str(w.path), "bytes": w.size, "why": w.why} for w in found]
        print_json({"dry_run": dry_run, "bytes": sum(w.size for w in found), "files": files})
    else:
        print_columns([(str(w.path), f"{w.size / 2**20:.1f} MB", w.why) for w in found])
    if busy:
        say(f"note: {busy} jobs are being worked on and were left alone")
    total = f"{len(found)} files, {sum(w.size for w in found) / 2**20:.1f} MB"
    say(f"{total} would be removed" if dry_run else f"{total} removed")
    return 0
