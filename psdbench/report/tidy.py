"""All scores as one long table, one row per job, metric and view, as CSV and as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.report.results import MAJORITY, Result
from psdbench.report.schema import DIGITS, SCORES
from psdbench.report.text import plain

if TYPE_CHECKING:
    from psdbench.report.single import Report


def score_rows(parts: Sequence[Report]) -> Iterator[tuple[Any, ...]]:
    """Rows with the columns of `SCORES`; MAJORITY is left out, for no scorer gave it."""
    for part in parts:
        trained = {(method, m.id) for m in part.analysis.metrics for method in m.trained_on}
        yield from _rows(part.protocol[:DIGITS], part.results, trained)


def _rows(
    protocol: str, results: Sequence[Result], trained: set[tuple[str, str]]
) -> Iterator[tuple[Any, ...]]:
    for r in results:
        start = (protocol, r.label, r.spec.prompt, r.spec.seed, r.spec.id, r.status)
        if not r.scores:
            yield (*start, None, None, None, None, None)
        for metric, score in r.scores.items():
            if metric != MAJORITY:
                for view, value in enumerate(score.values):
                    direction, steered = score.higher_is_better, (r.label, metric) in trained
                    yield (*start, metric, view, value, direction, steered)


def write_parquet(path: Path, parts: Sequence[Report]) -> None:
    """Write the rows as Parquet; every column carries its meaning in its metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "seed": pa.int64(),
        "view": pa.int32(),
        "value": pa.float64(),
        "higher_is_better": pa.bool_(),
        "trained_on": pa.bool_(),
    }
    fields = [
        pa.field(name, types.get(name, pa.string()), metadata={"description": meaning})
        for name, meaning in SCORES.items()
    ]
    columns = list(zip(*score_rows(parts), strict=True))
    prompt = list(SCORES).index("prompt")
    columns[prompt] = tuple(map(plain, columns[prompt]))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    parquet.write_table(pa.table(arrays, schema=pa.schema(fields)), path, compression="zstd")
