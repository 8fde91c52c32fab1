"""All scores as one long table, one row per job, metric and view, as CSV and as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.report.analysis import Analysis
from psdbench.report.results import MAJORITY, Result
from psdbench.report.schema import SCORES
from psdbench.report.text import plain

if TYPE_CHECKING:
    import pyarrow as pa

GROUP = 500
"""jobs whose rows are in memory at once"""


def score_rows(results: Sequence[Result], analysis: Analysis) -> Iterator[tuple[Any, ...]]:
    """Rows with the columns of `SCORES`; MAJORITY is left out, for no scorer gave it."""
    trained = {(method, m.id) for m in analysis.metrics for method in m.trained_on}
    for r in results:
        start = (r.label, r.spec.prompt, r.spec.seed, r.spec.id, r.status)
        if not r.scores:
            yield (*start, None, None, None, None, None)
        for metric, score in r.scores.items():
            if metric != MAJORITY:
                for view, value in enumerate(score.values):
                    direction, steered = score.higher_is_better, (r.label, metric) in trained
                    yield (*start, metric, view, value, direction, steered)


def write_parquet(path: Path, results: Sequence[Result], analysis: Analysis) -> None:
    """Write the rows as Parquet, in groups of `GROUP` jobs."""
    from pyarrow import parquet

    with parquet.ParquetWriter(path, schema(), compression="zstd") as writer:
        for start in range(0, len(results), GROUP):
            writer.write_table(score_table(results[start : start + GROUP], analysis))


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


def score_table(results: Sequence[Result], analysis: Analysis) -> pa.Table:
    """The rows as a table."""
    import pyarrow as pa

    columns = list(zip(*score_rows(results, analysis), strict=True))
    columns[1] = tuple(map(plain, columns[1]))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema(), strict=True)]
    return pa.table(arrays, schema=schema())
