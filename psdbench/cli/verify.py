"""`psdbench verify`: is every number of a run and its report what the stored renders give?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from psdbench.cli import options as o
from psdbench.cli.output import print_json, say


def verify(
    run: Annotated[Path, typer.Argument(help="A run folder, results/NAME.", show_default=False)],
    votes: o.Votes = None,
    device: o.Device = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    """Check every file, score the stored renders anew, and prove the tables of RUN/report. Changes no result.

    The outcome is kept in RUN/verified.json, and reports that are made afterwards tell it.

    Exit code 0: proven; 4: weights of a scorer are not here; 5: something is not what it should be.
    """
    from psdbench.errors import CorruptResult, EnvironmentProblem
    from psdbench.job import Models
    from psdbench.launch.notes import quiet_libraries
    from psdbench.launch.threads import set_threads
    from psdbench.plan import device_of
    from psdbench.settings import RunConfig
    from psdbench.store.verified import keep
    from psdbench.study.votes import vote_files
    from psdbench.verify import verify

    quiet_libraries()
    models = Models(device_of(RunConfig(device=device or "auto")))
    set_threads(models.device)
    proof = verify(run, models, lambda job: None if quiet else say(job), vote_files(votes or ()))
    try:
        keep(run, proof)
    except OSError as error:
        say(f"not kept for reports: {error}")
    code = EnvironmentProblem.exit_code if proof.unproven else 0
    code = CorruptResult.exit_code if proof.wrong else code
    for reason in proof.wrong:
        say(f"error: {reason}")
    for reason in proof.unproven:
        say(f"not proven: {reason}")
    if json:
        print_json({"run": str(run), **asdict(proof), "exit_code": code})
        return code
    print(
        f"{proof.jobs} finished jobs, {proof.files} files, {proof.scores} scores made anew "
        f"(largest difference {proof.deviation:.1g}), {proof.tables} files of the report: "
        + ("proven" if not code else f"{len(proof.wrong)} wrong, {len(proof.unproven)} not proven")
    )
    return code
