"""Text for reports: numbers as people read them, foreign text made harmless, tables of Markdown."""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

_MARKS = re.compile(r"([\\`*\[\]#|~$]|(?<![^\W_])_|_(?![^\W_]))")  # a _ inside a word is no markup
MISSING = "–"


def plain(text: str) -> str:
    """The text on one line, without control and direction characters."""
    return "".join(
        c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co")
    )


def markdown(text: str) -> str:
    """Foreign text for a place in Markdown where nothing in it may act as markup, table border or HTML."""
    return html.escape(_MARKS.sub(r"\\\1", plain(text)), quote=False)


def csv_field(text: str) -> str:
    """Foreign text for a CSV cell that no spreadsheet takes for a formula."""
    clean = plain(text)
    return f"'{clean}" if clean[:1] in "=+-@" and clean else clean


def link(path: Path, start: Path) -> str:
    """The relative path from a folder to a file, as the target of a Markdown link."""
    return quote(Path(os.path.relpath(path, start)).as_posix(), safe="/.-_")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table of escaped cells; the first `left` columns stand left, the others right."""
    widths = [max(3, *(len(line[i]) for line in (header, *rows))) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (w - 1) if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def number(value: float | None, signed: bool = False, scale: float | None = None) -> str:
    """Four significant digits of the largest of its company, `scale`: 0.2831, 27.41, 1180."""
    if value is None:
        return MISSING
    size = abs(value if scale is None else scale)
    decimals = 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text if float(text) else f"{0:.{decimals}f}"


def count(number: int, noun: str) -> str:
    """``1 job``, ``3 jobs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def enumeration(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)
