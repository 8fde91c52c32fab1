"""The report of one protocol: its results and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.report.analysis import Analysis
from psdbench.report.content import Content, content
from psdbench.report.output import Output
from psdbench.report.results import Result
from psdbench.report.validity import Validity

if TYPE_CHECKING:
    from psdbench.study.outcome import Outcome


@dataclass(frozen=True)
class Report(Output):
    """The results of some runs, all of one protocol, and what follows from them."""

    runs: tuple[Path, ...]
    results: tuple[Result, ...]
    analysis: Analysis
    validity: Validity = field(default_factory=Validity)
    worst: Analysis | None = None
    """with failures counted as the worst score, where there are any"""
    name: str = ""
    """what it is called beside the reports of other protocols"""
    votes: Outcome | None = None
    """what people have voted in a study of these results"""

    @property
    def parts(self) -> Sequence[Report]:
        """Itself alone."""
        return (self,)

    @property
    def protocol(self) -> str:
        """The hash of the protocol; empty where all renders were made elsewhere."""
        first = self.results[0]
        return "" if first.foreign else first.spec.protocol.hash

    @cached_property
    def content(self) -> Content:
        """What all formats say."""
        return content(
            self.runs, self.analysis, self.worst, self.results, self.validity, self.name, self.votes
        )
