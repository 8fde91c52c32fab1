"""What every format of a report is made of: lines of words, and tables of cells that are not yet any markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psdbench.report.text import MISSING, number
from psdbench.stats import Estimate

Mark = Literal["", "best", "shared", "told"]
"""`best`: separable from all others; `shared`: not separable from the best; `told`: what the cell says stands out"""


@dataclass(frozen=True)
class Line:
    """A sentence; `subject` is what it is about and is set off: **psd** against sds …"""

    text: str
    subject: str = ""

    @property
    def whole(self) -> str:
        """All of it without emphasis."""
        return f"{self.subject} {self.text}".strip()


@dataclass(frozen=True)
class Cell:
    """A place in a table: raw text, with what belongs to it set smaller, and the number that it is sorted by."""

    text: str
    small: str = ""
    suffix: str = ""
    mark: Mark = ""
    sort: float | None = None
    ends: tuple[float, float] | None = None
    """of the interval"""

    @property
    def whole(self) -> str:
        """All of it on one line."""
        return f"{self.text}{f' {self.small}' if self.small else ''}{self.suffix}"


@dataclass(frozen=True)
class Table:
    """A titled table; the first `left` columns are words, the others numbers. `notes` explain it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int = 1
    notes: Sequence[str] = ()


def words(*texts: str) -> list[Cell]:
    """Cells of plain text."""
    return [Cell(text) for text in texts]


def value(number_: float | None, text: str | None = None) -> Cell:
    """A cell of one number."""
    return Cell(number(number_) if text is None else text, sort=number_)


def estimated(result: Estimate, signed: bool = False, suffix: str = "", mark: Mark = "") -> Cell:
    """A mean with its interval: ``0.2831`` and, smaller, ``[0.2710, 0.2952]``."""
    if result.mean is None:
        return Cell(MISSING)
    if result.low is None or result.high is None:
        return Cell(number(result.mean, signed), "", suffix, mark, result.mean)
    scale = max(abs(result.low), abs(result.high))
    mean, low, high = (number(each, signed, scale) for each in (result.mean, result.low, result.high))
    return Cell(mean, f"[{low}, {high}]", suffix, mark, result.mean, (result.low, result.high))
