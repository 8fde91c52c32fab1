"""Reports: a pure function of the manifests, scores and controls of runs, in all formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psdbench.report.analysis import analyse
from psdbench.report.failures import worst_case
from psdbench.report.output import FOLDER, FORMATS, TEXTS, Output
from psdbench.report.results import Result, read_protocols
from psdbench.report.side_by_side import ELSEWHERE_NAME, SideBySide
from psdbench.report.single import Report
from psdbench.report.validity import assess

__all__ = ["FOLDER", "FORMATS", "TEXTS", "Output", "Report", "SideBySide", "build_report"]


def build_report(runs: Sequence[Path], baseline: str | None = None) -> Report | SideBySide:
    """Read the finished part of one or several runs and compute their figures.

    Jobs of several protocols stand side by side, each protocol with figures of its own. Raises UsageError when
    there are no jobs, when one scorer name stands for different weights under one protocol, or when the baseline
    is not among the methods.
    """
    groups = read_protocols(runs)
    if len(groups) == 1:
        return _report(runs, groups[0], baseline)
    known = {result.label for group in groups for result in group}
    if baseline is not None and baseline not in known:
        analyse(groups[0], baseline)  # which refuses it
    parts = []
    for number, group in enumerate(groups, 1):
        name = ELSEWHERE_NAME if group[0].foreign else f"Protocol {number}"
        own = baseline if baseline in {result.label for result in group} else None
        parts.append(_report(_runs_of(group, runs), group, own, name))
    return SideBySide(tuple(runs), tuple(parts))


def _report(runs: Sequence[Path], results: Sequence[Result], baseline: str | None, name: str = "") -> Report:
    validity = assess(runs, results)
    valid = {id: outcome.valid for id, outcome in validity.controls.items()}
    analysis = analyse(results, baseline, valid)
    blamed = worst_case(results, analysis.metrics)
    worst = analyse(blamed, analysis.baseline, valid) if blamed and analysis.baseline else None
    return Report(tuple(runs), tuple(results), analysis, validity, worst, name)


def _runs_of(results: Sequence[Result], runs: Sequence[Path]) -> list[Path]:
    """The run folders in which these jobs lie."""
    places = {result.folder.parent.parent for result in results}
    return [run for run in runs if run in places]
