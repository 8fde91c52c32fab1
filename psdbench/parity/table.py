"""The rows of a parity check as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from psdbench.parity.compare import BOUND, Row

HEADER = (
    *("metric", "package", "layers", "pictures", "prompts", "pairs"),
    *("sd of the score", "largest |difference|", "in sd", "bound", "verdict"),
)


def cells(row: Row) -> list[str]:
    """A row as texts in the order of the header."""
    return [
        *(row.metric, f"{row.package} {next(iter(row.versions.values()))}"),
        *("{} + {}".format(*row.layers), str(row.pictures), str(row.prompts), str(row.pairs)),
        *(f"{row.sd:.4g}", f"{row.largest:.2g}", f"{row.ratio:.2g}", f"{BOUND:.0e}"),
        "within" if row.within else f"OUT OF BOUNDS at {row.worst}",
    ]


def markdown(rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [HEADER, ["---"] * len(HEADER), *map(cells, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def as_json(row: Row) -> dict[str, Any]:
    """All that is known of a row, for --json; what is not finite is null."""
    known = asdict(row) | {"ratio": row.ratio, "bound": BOUND, "within": row.within}
    infinite = {key for key, value in known.items() if isinstance(value, float) and not math.isfinite(value)}
    return known | dict.fromkeys(infinite)
