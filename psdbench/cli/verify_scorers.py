"""`psdbench verify-scorers`: our scorers against the official packages, on the official checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psdbench.cli import options as o
from psdbench.cli.output import print_columns, print_json, say


def verify_scorers(
    python: Annotated[
        list[Path] | None,
        typer.Option(
            "--python",
            help="A Python interpreter with an official package; once for each environment.",
            envvar="PSDBENCH_PYTHON",
            show_default=False,
        ),
    ] = None,
    metrics: o.Metrics = None,
    pictures: Annotated[
        int,
        typer.Option(
            help="Pictures for each of the 40 prompts.", envvar="PSDBENCH_VERIFY_PICTURES", min=1, max=18
        ),
    ] = 4,
    json: o.Json = False,
) -> int:
    """Score the same pictures and prompts with the official packages and with psdbench, and compare.

    Without --metrics, all scorers whose weights are there. Runs on the CPU in float32; exit code 1 if a score is
    further off than 1e-4 of its standard deviation.

    Example:  psdbench verify-scorers --python envs/hpsv2/bin/python --metrics hps_v2.1
    """
    import tempfile

    from psdbench.launch.notes import quiet_libraries
    from psdbench.parity.compare import Material, Row, choose_pairs, compare
    from psdbench.parity.pictures import write_pictures
    from psdbench.parity.prompts import PROMPTS
    from psdbench.parity.table import HEADER, as_json, cells

    quiet_libraries()
    names = wanted_metrics(metrics or [])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="psdbench-parity-") as folder:
        paths = write_pictures(Path(folder))
        material = Material(paths, PROMPTS, choose_pairs(len(paths), len(PROMPTS), pictures))
        for name in names:
            rows += compare(name, material, python or [], say)
    if json:
        print_json([as_json(row) for row in rows])
    else:
        print_columns([HEADER, *map(cells, rows)])
    return 0 if all(row.within for row in rows) else 1


def wanted_metrics(given: list[str]) -> list[str]:
    """The ids of the given metrics, or of all whose weights are there; EnvironmentProblem where any lacks."""
    from psdbench import registry, weights
    from psdbench.errors import EnvironmentProblem, UsageError
    from psdbench.metrics import metric_id
    from psdbench.parity.references import REFERENCES

    names = [metric_id(name, "") for name in registry.split_names(given)]
    if unofficial := [name for name in names if name not in REFERENCES]:
        known = ", ".join(REFERENCES)
        raise UsageError(f"'{unofficial[0]}' has no official package to compare with", f"choose from {known}")
    weights.require(names)
    here = names or [
        name for name in REFERENCES if not any(weights.problems(each) for each in weights.with_needs([name]))
    ]
    if not here:
        raise EnvironmentProblem(
            f"no official checkpoints in {weights.root()}",
            "psdbench prefetch --metrics hps_v2.1,image_reward",
        )
    return here
