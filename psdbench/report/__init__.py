"""Reports: a pure function of the manifests, scores and controls of runs, in all formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.report.analysis import analyse
from psdbench.report.failures import worst_case
from psdbench.report.output import FOLDER, FORMATS, TEXTS, Output
from psdbench.report.results import Result, read_protocols
from psdbench.report.side_by_side import ELSEWHERE_NAME, SideBySide
from psdbench.report.single import Report
from psdbench.report.validity import assess

if TYPE_CHECKING:
    from psdbench.study.outcome import Outcome

__all__ = ["FOLDER", "FORMATS", "TEXTS", "Output", "Report", "SideBySide", "build_report"]


def build_report(
    runs: Sequence[Path], baseline: str | None = None, votes: Sequence[Path] = ()
) -> Report | SideBySide:
    """Read the finished part of one or several runs and compute their figures, with files of `votes` on one of them.

    Jobs of several protocols stand side by side, each protocol with figures of its own. Raises UsageError when
    there are no jobs, when one scorer name stands for different weights under one protocol, when the baseline is
    not among the methods, or when the votes are on another run.
    """
    groups = read_protocols(runs)
    asked, said = _voted(runs, votes)
    if len(groups) == 1:
        return _report(runs, groups[0], baseline, votes=said)
    known = {result.label for group in groups for result in group}
    if baseline is not None and baseline not in known:
        analyse(groups[0], baseline)  # which refuses it
    parts = []
    for number, group in enumerate(groups, 1):
        name = ELSEWHERE_NAME if group[0].foreign else f"Protocol {number}"
        own = baseline if baseline in {result.label for result in group} else None
        places = _runs_of(group, runs)
        parts.append(_report(places, group, own, name, said if asked in places else None))
    return SideBySide(tuple(runs), tuple(parts))


def _voted(runs: Sequence[Path], votes: Sequence[Path]) -> tuple[Path | None, Outcome | None]:
    """The run that people have voted on, and what they say."""
    if not votes:
        return None, None
    from psdbench.study.outcome import outcome_of

    return outcome_of(runs, votes)


def _report(
    runs: Sequence[Path],
    results: Sequence[Result],
    baseline: str | None,
    name: str = "",
    votes: Outcome | None = None,
) -> Report:
    validity = assess(runs, results)
    valid = {id: outcome.valid for id, outcome in validity.controls.items()}
    analysis = analyse(results, baseline, valid)
    blamed = worst_case(results, analysis.metrics)
    worst = analyse(blamed, analysis.baseline, valid) if blamed and analysis.baseline else None
    return Report(tuple(runs), tuple(results), analysis, validity, worst, name, votes)


def _runs_of(results: Sequence[Result], runs: Sequence[Path]) -> list[Path]:
    """The run folders in which these jobs lie."""
    places = {result.folder.parent.parent for result in results}
    return [run for run in runs if run in places]
