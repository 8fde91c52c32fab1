"""The tables for programs: equal scores give equal bytes; what depends on the machine has its own file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from psdbench.report.analysis import Analysis, Metric
from psdbench.report.blocks import Table
from psdbench.report.results import MAJORITY
from psdbench.report.schema import AGREEMENT, COST, DIGITS, FILES, SCORES, SNAPSHOTS, TABLE
from psdbench.report.text import csv_field
from psdbench.report.tidy import score_rows
from psdbench.report.trajectory import with_end

if TYPE_CHECKING:
    from psdbench.report.single import Report

SCHEMA_VERSION = 3
SPENT = ("steps", "denoiser_forwards", "seconds")
PART = 2**20
"""characters of a file that are in memory at once"""


def table_rows(part: Report) -> list[dict[str, Any]]:
    """One row per method and metric: the mean, its interval, and the paired difference to the baseline."""
    protocol, analysis = {"protocol": part.protocol[:DIGITS]}, part.analysis
    return [protocol | _row(analysis, m, metric) for m in analysis.methods for metric in analysis.metrics]


def _row(analysis: Analysis, method: str, metric: Metric) -> dict[str, Any]:
    mean = analysis.means[method, metric.id]
    found = analysis.comparisons.get((method, metric.id))
    difference = found.difference if found else None
    return {
        "method": method,
        "metric": metric.id,
        "higher_is_better": metric.higher_is_better,
        "trained_on": method in metric.trained_on,
        "n": mean.n,
        "prompts": mean.prompts,
        "mean": _rounded(mean.mean),
        "low": _rounded(mean.low),
        "high": _rounded(mean.high),
        "baseline": analysis.baseline if difference else None,
        "pairs": difference.n if difference else None,
        "difference": _rounded(difference.mean) if difference else None,
        "difference_low": _rounded(difference.low) if difference else None,
        "difference_high": _rounded(difference.high) if difference else None,
        "valid": metric.valid,
        "optimizer_shared": method not in analysis.elsewhere,
        "p": _rounded(found.p) if found else None,
        "p_holm": _rounded(found.adjusted) if found else None,
        "separable": bool(found.sign) if found else None,
        "wins": _rounded(found.wins.mean) if found else None,
        "improvement": _rounded(found.improvement.mean) if found else None,
        "detectable": _rounded(found.detectable) if found else None,
        "shares_top": method in analysis.tops[metric.id] if analysis.tops.get(metric.id) else None,
    }


def table_csv(parts: Sequence[Report]) -> str:
    """The rows as CSV; empty where there is no number."""
    rows = [row for part in parts for row in table_rows(part)]
    return _csv(TABLE, [[_cell(row[column]) for column in TABLE] for row in rows])


def table_json(parts: Sequence[Report], differing: Mapping[str, Sequence[Any]]) -> str:
    """The rows, the values by prompt, and what made them, as JSON.

    Of several protocols a list of such documents, with the fields in which they differ.
    """
    documents = [_document(part) for part in parts]
    content = {"schema_version": SCHEMA_VERSION, "differing": differing, "protocols": documents}
    return (
        json.dumps(
            content if len(parts) > 1 else documents[0],
            indent=1,
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
        )
        + "\n"
    )


def _document(part: Report) -> dict[str, Any]:
    analysis = part.analysis
    return {
        "schema_version": SCHEMA_VERSION,
        "protocol": part.protocol,
        "baseline": analysis.baseline,
        "methods": [
            {"method": m, "jobs": analysis.total[m], "finished": analysis.finished[m]}
            for m in analysis.methods
        ],
        "metrics": [
            {"metric": m.id, "sha256": m.sha256, "higher_is_better": m.higher_is_better, "valid": m.valid}
            for m in analysis.metrics
        ],
        "columns": TABLE,
        **({"votes": part.votes.content} if part.votes else {}),
        "rows": table_rows(part),
        "prompts": [
            {"prompt": prompt, "method": method, "metric": metric, "n": n, "mean": _rounded(mean)}
            for (prompt, method, metric), (n, mean) in sorted(analysis.by_prompt.items())
        ],
    }


def cost_csv(parts: Sequence[Report]) -> str:
    """One row per job: how it ended and what it has cost; differs between machines and runs."""
    figures = list(COST)[5:]
    rows = [
        [
            part.protocol[:DIGITS],
            r.label,
            csv_field(r.spec.prompt),
            r.spec.seed,
            r.status,
            *(_cell(r.cost.get(name)) for name in figures),
        ]
        for part in parts
        for r in part.results
    ]
    return _csv(COST, rows)


def snapshots_csv(parts: Sequence[Report]) -> str:
    """One row per job with snapshots, snapshot and metric; the last of a job is its end."""
    rows = [
        [
            part.protocol[:DIGITS],
            r.label,
            csv_field(r.spec.prompt),
            r.spec.seed,
            *(_cell(x) for x in (each.share, *(each.cost.get(c) for c in SPENT), metric, value)),
        ]
        for part in parts
        for r in part.results
        if r.snapshots
        for each in with_end(r)
        for metric, value in each.means.items()
        if metric != MAJORITY
    ]
    return _csv(SNAPSHOTS, rows)


def agreement_csv(parts: Sequence[Report]) -> str:
    """One row per metric, people and unit: each rank correlation with its interval."""
    figures = ("spearman", "kendall", "pairs")
    rows = []
    for part in parts:
        for (metric, people, unit), found in part.validity.agreements.items():
            values = [getattr(found, name) for name in figures]
            cells = [_cell(_rounded(value)) for e in values for value in (e.mean, e.low, e.high)]
            sizes = [found.spearman.n, found.spearman.prompts]
            rows.append([part.protocol[:DIGITS], metric, csv_field(people), unit, *sizes, *cells])
        for metric, (_, share) in part.votes.metrics.items() if part.votes else ():
            cells = [_cell(_rounded(value)) for value in (share.mean, share.low, share.high)]
            rows.append(
                [part.protocol[:DIGITS], metric, "votes", "pair", share.n, share.prompts, *[""] * 6, *cells]
            )
    return _csv(AGREEMENT, rows)


def scores_csv(parts: Sequence[Report]) -> Iterator[str]:
    """One row per job, metric and view, values in full precision; in parts, for there may be a million rows."""
    prompt = list(SCORES).index("prompt")
    rows = (
        [csv_field(x) if i == prompt else _exact(x) for i, x in enumerate(row)] for row in score_rows(parts)
    )
    return _csv_parts(SCORES, rows)


def table_of(table: Table) -> str:
    """A table of the report as CSV; a column of means with intervals becomes three: mean, low and high."""
    spread = [any(row[i].ends for row in table.rows) for i in range(len(table.header))]
    header = []
    for name, wide in zip(table.header, spread, strict=True):
        header += [name, f"{name}_low", f"{name}_high"] if wide else [name]
    rows = []
    for row in table.rows:
        cells: list[Any] = []
        for cell, wide in zip(row, spread, strict=True):
            cells.append(csv_field(cell.whole) if cell.sort is None else _cell(cell.sort))
            cells += [_cell(end) for end in cell.ends or ("", "")] if wide else []
        rows.append(cells)
    return _csv(header, rows)


def columns_csv() -> str:
    """What every column of these files means."""
    return _csv(("file", "column", "meaning"), [(f, c, m) for f, cs in FILES.items() for c, m in cs.items()])


def _csv(header: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    return "".join(_csv_parts(header, rows))


def _csv_parts(header: Iterable[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The text in parts of many rows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(row)
        if text.tell() > PART:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _rounded(value: float | None) -> float | None:
    """Six significant digits: more than an interval knows, and stable against the last bits of a sum."""
    return None if value is None else float(f"{value:.6g}")


def _exact(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else value


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
