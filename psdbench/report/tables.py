"""The tables for programs: equal scores give equal bytes; what depends on the machine has its own file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from psdbench.agreement import Agreement
from psdbench.report.analysis import Analysis, Metric
from psdbench.report.results import Result
from psdbench.report.text import csv_field

SCHEMA_VERSION = 1
COLUMNS = (
    "method",
    "metric",
    "higher_is_better",
    "trained_on",
    "n",
    "prompts",
    "mean",
    "low",
    "high",
    "baseline",
    "pairs",
    "difference",
    "difference_low",
    "difference_high",
    "valid",
    "optimizer_shared",
)
COST_COLUMNS = (
    "seconds",
    "peak_memory_mb",
    "steps",
    "gradient_rms_median",
    "denoiser_forwards",
    "denoiser_backwards",
    "encodes",
    "decodes",
    "reward_forwards",
    "reward_backwards",
)


def table_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """One row per method and metric: the mean, its interval, and the paired difference to the baseline."""
    return [_row(analysis, method, metric) for method in analysis.methods for metric in analysis.metrics]


def _row(analysis: Analysis, method: str, metric: Metric) -> dict[str, Any]:
    mean = analysis.means[method, metric.id]
    difference = analysis.differences.get((method, metric.id))
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
    }


def table_csv(analysis: Analysis) -> str:
    """The rows as CSV; empty where there is no number."""
    rows = table_rows(analysis)
    return _csv(COLUMNS, [[_cell(row[column]) for column in COLUMNS] for row in rows])


def table_json(analysis: Analysis, protocol: str) -> str:
    """The rows, the values by prompt, and what made them, as JSON; `protocol` is the hash of the protocol."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "protocol": protocol,
        "baseline": analysis.baseline,
        "methods": [
            {"method": m, "jobs": analysis.total[m], "finished": analysis.finished[m]}
            for m in analysis.methods
        ],
        "metrics": [
            {"metric": m.id, "sha256": m.sha256, "higher_is_better": m.higher_is_better, "valid": m.valid}
            for m in analysis.metrics
        ],
        "rows": table_rows(analysis),
        "prompts": [
            {"prompt": prompt, "method": method, "metric": metric, "n": n, "mean": _rounded(mean)}
            for (prompt, method, metric), (n, mean) in sorted(analysis.by_prompt.items())
        ],
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def cost_csv(results: Sequence[Result]) -> str:
    """One row per job: how it ended and what it has cost; differs between machines and runs."""
    header = ["method", "prompt", "seed", "status", *COST_COLUMNS]
    rows = [
        [
            r.label,
            csv_field(r.spec.prompt),
            r.spec.seed,
            r.status,
            *(_cell(r.cost.get(c)) for c in COST_COLUMNS),
        ]
        for r in results
    ]
    return _csv(header, rows)


def agreement_csv(agreements: Mapping[tuple[str, str, str], Agreement]) -> str:
    """One row per metric, people and unit: each rank correlation with its interval."""
    figures = ("spearman", "kendall", "pairs")
    header = ["metric", "people", "unit", "n", "prompts"]
    header += [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
    rows = []
    for (metric, people, unit), found in agreements.items():
        values = [getattr(found, name) for name in figures]
        cells = [_cell(_rounded(value)) for e in values for value in (e.mean, e.low, e.high)]
        sizes = [found.spearman.n, found.spearman.prompts]
        rows.append([metric, csv_field(people), unit, *sizes, *cells])
    return _csv(header, rows)


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _rounded(value: float | None) -> float | None:
    """Six significant digits: more than an interval knows, and stable against the last bits of a sum."""
    return None if value is None else float(f"{value:.6g}")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
