"""What the commands print: data on stdout, everything said to people on stderr, never a control character."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from psdbench.errors import PsdbenchError


def printable(text: str) -> str:
    """The text on one line, control characters as question marks: prompts and file names are foreign text."""
    return "".join(
        "?" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in " ".join(text.split())
    )


def say(text: str) -> None:
    """A line to the user, on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def show_error(error: PsdbenchError) -> None:
    """``error:`` and ``remedy:`` on stderr."""
    say(f"error: {error}")
    if error.remedy:
        print(f"  remedy: {printable(error.remedy)}", file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True))


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Rows of texts on stdout, columns aligned; the last one is free."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        padded = [printable(cell).ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*padded, printable(row[-1])]).rstrip())


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
