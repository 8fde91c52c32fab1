"""Runs of different protocols in one report: side by side, with what differs named, and nothing compared across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from psdbench.report.blocks import Line, Table, words
from psdbench.report.output import Output
from psdbench.report.provenance import title
from psdbench.report.results import FINISHED, differing_fields, shown
from psdbench.report.single import Report
from psdbench.report.text import MISSING, count

ELSEWHERE_NAME = "Renders made elsewhere"


@dataclass(frozen=True)
class SideBySide(Output):
    """The reports of several protocols, in the order of the runs."""

    runs: tuple[Path, ...]
    reports: tuple[Report, ...]

    @property
    def parts(self) -> Sequence[Report]:
        """One report for each protocol."""
        return self.reports

    @cached_property
    def differing(self) -> Mapping[str, Sequence[Any]]:
        """The fields in which the protocols differ, by dotted name, each with its values protocol by protocol."""
        return differing_fields([part.results[0].spec.protocol for part in self._own])

    @property
    def lines(self) -> Sequence[Line]:
        """Why there are several reports."""
        lines = [
            Line(
                f"The jobs follow {len(self._own)} protocols, which differ in "
                f"{count(len(self.differing), 'field')}. Each has a part of its own: methods are compared within a "
                "protocol only, for a difference between two may be due to whatever sets them apart."
            )
        ]
        if len(self._own) < len(self.reports):
            lines.append(
                Line(
                    "Renders made elsewhere follow no protocol of ours and have a part of their own; to see them "
                    "beside the methods of one protocol, report them with the runs of that one alone."
                )
            )
        return lines

    @property
    def table(self) -> Table:
        """Field x protocol: whose jobs they are, and the values that differ."""
        own = self._own
        jobs = [f"{sum(r.status == FINISHED for r in p.results)} of {len(p.results)}" for p in own]
        rows = [
            words("runs", *(title(part.runs) for part in own)),
            words("jobs finished", *jobs),
            words("hash", *(part.protocol[:12] for part in own)),
        ]
        rows += [words(key, *map(_text, values)) for key, values in self.differing.items()]
        header = ["field", *(part.name for part in own)]
        return Table("What differs", header, rows, left=len(header))

    @property
    def _own(self) -> Sequence[Report]:
        """The parts with a protocol of ours."""
        return [part for part in self.reports if part.protocol]


def _text(value: Any) -> str:
    return MISSING if value is None or value == "" else shown(value)
