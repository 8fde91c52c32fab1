"""The content of a report, the same in every format: title, verdict, and tables in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.report import parts
from psdbench.report.analysis import Analysis
from psdbench.report.blocks import Line, Table
from psdbench.report.cost import cost_table
from psdbench.report.failures import sensitivity
from psdbench.report.provenance import provenance_table, title
from psdbench.report.results import Result
from psdbench.report.validity import Validity, agreement_table, controls_table, warnings
from psdbench.report.verdict import verdict

if TYPE_CHECKING:
    from psdbench.study.outcome import Outcome


@dataclass(frozen=True)
class Content:
    """What a report says; every part is there only where its numbers are."""

    title: str
    """the names of the runs"""
    name: str
    """of the protocol where there are several, else empty"""
    verdict: tuple[Line, ...]
    results: tuple[Table, ...]
    """means and differences"""
    surety: tuple[Table, ...]
    """shares of wins, corrected p, interquartile means"""
    votes: tuple[Table, ...]
    """ranking by people, and which metrics say the same"""
    voters: tuple[Line, ...]
    """who has voted"""
    validity: tuple[Table, ...]
    """controls and agreement with people"""
    cost: tuple[Table, ...]
    failures: tuple[Table, ...]
    prompts: tuple[Table, ...]
    provenance: tuple[Table, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """All but the provenance, in their order."""
        first = (*self.results, *self.surety, *self.votes, *self.validity)
        return (*first, *self.cost, *self.failures, *self.prompts)


def content(
    runs: Sequence[Path],
    analysis: Analysis,
    worst: Analysis | None,
    results: Sequence[Result],
    validity: Validity,
    name: str = "",
    votes: Outcome | None = None,
) -> Content:
    """Everything that follows from the numbers; `worst` counts failures as the worst score."""
    said = [
        *verdict(analysis, results),
        *(votes.against(analysis.baseline) if votes else ()),
        *sensitivity(analysis, worst, results),
        *warnings(validity, results),
    ]
    means = parts.means_table(analysis) if analysis.metrics else None
    return Content(
        title=title(runs),
        name=name,
        verdict=tuple(said),
        results=_there(means, parts.differences_table(analysis)),
        surety=_there(parts.wins_table(analysis), parts.middles_table(analysis)),
        votes=tuple(votes.tables) if votes else (),
        voters=tuple(votes.lines) if votes else (),
        validity=_there(controls_table(validity), agreement_table(validity)),
        cost=_there(cost_table(analysis, results)),
        failures=_there(parts.failures_table(results)),
        prompts=_there(parts.prompts_table(analysis)),
        provenance=(provenance_table(runs, analysis, results),),
    )


def _there(*tables: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in tables if table)
