"""All scores as one long table, one row per job, metric and view, as CSV and as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.report.results import MAJORITY, Result
from psdbench.report.schema import DIGITS, SCORES
from psdbench.report.text import plain

if TYPE_CHECKING:
    import pyarrow as pa

    from psdbench.report.single import Report

GROUP = 500
"""jobs whose rows are in memory at once"""


def score_rows(parts: Sequence[Report]) -> Iterator[tuple[Any, ...]]:
    """Rows with the columns of `SCORES`; MAJORITY is left out, for no scorer gave it."""
    return chain.from_iterable(_groups(parts))


def _groups(parts: Sequence[Report]) -> Iterator[Iterator[tuple[Any, ...]]]:
    """The rows of `GROUP` jobs at a time."""
    for part in parts:
        trained = {(method, m.id) for m in part.analysis.metrics for method in m.trained_on}
        for start in range(0, len(part.results), GROUP):
            yield _rows(part.protocol[:DIGITS], part.results[start : start + GROUP], trained)


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
    """Write the rows as Parquet, in groups of `GROUP` jobs."""
    from pyarrow import parquet

    with parquet.ParquetWriter(path, schema(), compression="zstd") as writer:
        for table in score_tables(parts):
            writer.write_table(table)


def schema() -> pa.Schema:
    """The columns, which carry their meaning in their metadata."""
    import pyarrow as pa

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
    return pa.schema(fields)


def score_tables(parts: Sequence[Report]) -> Iterator[pa.Table]:
    """The rows as tables of the rows of `GROUP` jobs."""
    import pyarrow as pa

    prompt = list(SCORES).index("prompt")
    for rows in _groups(parts):
        columns = list(zip(*rows, strict=True))
        columns[prompt] = tuple(map(plain, columns[prompt]))
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema(), strict=True)]
        yield pa.table(arrays, schema=schema())
